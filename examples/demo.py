"""Demo: an in-context classifier, trained on synthetic tables only, on real tables: ``python -m examples.demo``.

On each real table the network is compared, over the same folds, with classical models that are fitted to it; and with
itself after permutation of the context labels, which shows that it reads the table from the context.
"""

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import callbacks  # noqa: F401  (makes the names of the configuration known)
import datamodules  # noqa: F401
from tabattn.contract.batches import TableBatch
from tabattn.prior.metrics import Scores, score
from tabattn.prior.task import permute_context
from tabattn.tasks import PriorClassification
from tabattn.training.cli import CLI

CONFIG = Path(__file__).parent.parent / "configs" / "demo.yaml"
PERMUTATIONS = 3

Predictor = Callable[[TableBatch], Tensor]


class Row(NamedTuple):
    """Row of the result table."""

    table: str
    model: str
    roc_auc: float
    accuracy: float
    seconds: float


def fitted(make: Callable[[], ClassifierMixin]) -> Predictor:
    """Prediction function of a classical model that is fitted to the context rows of each batch."""

    def predict(batch: TableBatch) -> Tensor:
        x, y = np.nan_to_num(batch.x[0].numpy()), batch.y[0].numpy()
        model = make().fit(x[: batch.context], y[: batch.context])
        return torch.from_numpy(model.predict_proba(x[batch.context :]))

    return predict


def in_context(task: PriorClassification, permutation: int | None = None) -> Predictor:
    """Prediction function of the trained network, given context rows with true or permuted labels."""

    def predict(batch: TableBatch) -> Tensor:
        if permutation is not None:
            batch = batch._replace(y=permute_context(batch.y, batch.context, permutation))
        with torch.inference_mode():
            return task.predict_step(batch, 0)[0].cpu()

    return predict


def evaluate(predict: Predictor, folds: list[TableBatch]) -> tuple[Scores, float]:
    """Scores of the pooled predictions of all folds, and the time in seconds."""
    start = time.perf_counter()
    predicted = torch.cat([predict(fold) for fold in folds])
    seconds = time.perf_counter() - start
    return score(predicted, torch.cat([fold.y[0, fold.context :] for fold in folds])), seconds


def compare(task: PriorClassification, tables: dict[str, list[TableBatch]]) -> list[Row]:
    """Rows of every model on every table."""
    models = {
        "tabattn": [in_context(task)],
        "tabattn (permuted labels)": [in_context(task, number) for number in range(PERMUTATIONS)],
        "logistic regression": [fitted(lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)))],
        "random forest": [fitted(lambda: RandomForestClassifier(100, random_state=0))],
        "k nearest neighbours": [fitted(lambda: make_pipeline(StandardScaler(), KNeighborsClassifier()))],
    }
    rows = []
    for table, folds in tables.items():
        for name, predictors in models.items():
            results = [evaluate(predict, folds) for predict in predictors]
            auroc, accuracy, seconds = (
                float(np.mean(figures))
                for figures in zip(*((s.auroc, s.accuracy, taken) for s, taken in results), strict=True)
            )
            rows.append(Row(table, name, auroc, accuracy, seconds))
    return rows


def report(rows: list[Row]) -> str:
    """Format the rows as an aligned table, with means over tables."""
    tables = list(dict.fromkeys(row.table for row in rows))
    names = list(dict.fromkeys(row.model for row in rows))
    figures = {(row.table, row.model): row for row in rows}
    lines = [" " * 26 + "".join(f"{table:>22}" for table in tables) + f"{'mean':>10}"]
    lines.append(" " * 26 + f"{'ROC AUC  accuracy':>22}" * len(tables) + f"{'ROC AUC':>10}")
    for name in names:
        cells = [figures[table, name] for table in tables]
        text = "".join(f"{row.roc_auc:>13.3f}{row.accuracy:>9.3f}" for row in cells)
        lines.append(f"{name:<26}{text}{np.mean([row.roc_auc for row in cells]):>10.3f}")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Train and compare; write the result table to ``runs/demo/Softmax/results.csv``."""
    # Small tables gain little from a second thread, and lose much if another process uses the core.
    torch.set_num_threads(1)
    cli = CLI(args=["fit", "--config", str(CONFIG), *arguments])
    task, data = cli.model.eval().cpu(), cli.datamodule
    tables = {
        name: [batch for batch in (*data.folds.val, *data.folds.test) if int(batch.table) == index]
        for index, name in enumerate(data.tables)
    }
    rows = compare(task, tables)
    path = Path(cli.trainer.loggers[0].log_dir).parent / "results.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    sys.stdout.write(f"\n{report(rows)}\n\nAlso in {path}; look inside with: tensorboard --logdir runs\n")


if __name__ == "__main__":
    main(sys.argv[1:])
