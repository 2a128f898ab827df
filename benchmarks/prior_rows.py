"""In-context classifiers by number of context rows: ``python -m benchmarks.prior_rows``.

Seconds and memory of a training step and of a prediction, and ROC AUC, of networks that differ in the attention between
context rows. Each is trained here for the same number of steps on the same synthetic tables, or they are given as
``--checkpoints``. Networks and results are kept in the folder as they are made: the same command goes on after an
interruption, and measures nothing twice. Scores are those
of synthetic tables that no network was trained on, and of ``--tables``; a table has the same target rows behind every
number of context rows. Classical methods are fitted to the context rows.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.baselines import LEVELS
from benchmarks.measure import median_seconds
from benchmarks.prior_rows_report import report
from benchmarks.prior_variants import Runner, save, step
from benchmarks.reports import check_least, writable_folder
from datamodules.prior.options import BatchOptions
from datamodules.prior.scm_options import DEFAULT_OPTIONS, ColumnOptions, NetworkOptions, ScmOptions
from datamodules.prior.synthetic import ScmBatches, SyntheticPrior, TableSizes
from datamodules.tables.collections import load_frames
from datamodules.tables.real import RealTable, encode_frame
from tabattn.attention import MECHANISMS
from tabattn.compare.clocks import peak_bytes
from tabattn.contract.batches import TableBatch
from tabattn.contract.columns import recode, to_single
from tabattn.optim import MuonAdamW
from tabattn.prior.network import PriorNetwork
from tabattn.prior.weights import load_network
from tabattn.storage.files import write_file
from tabattn.tasks import PriorClassification

COMPARED = ["Softmax", "Local", "Inducing", "Pooling", "Linear", "Nystrom", "Entmax"]
SIZES: dict[str, Any] = {"dim": 64, "heads": 4, "hidden": 128, "layers": 3, "classes": 4}
EASY = ScmOptions(
    NetworkOptions(noise=(1e-3, 0.1), layers=(1, 3), trees=0.1), ColumnOptions(categorical=0.1, missing=0.0)
)
"""Prior of the first tables, on which networks begin to read their context sooner than on those of the default."""
FEATURES, TARGETS, HELD_OUT = 8, 200, 10**6
"""Features of the synthetic tables, target rows of all tables, and the first seed of tables to score on."""


class Task(NamedTuple):
    """Table to score on: its name, all rows in random order with the targets last, and flags of the columns."""

    name: str
    x: np.ndarray
    y: np.ndarray
    categorical: np.ndarray

    def cut(self, context: int) -> tuple[TableBatch, np.ndarray] | None:
        """Task with so many context rows, and flags of its columns, which vary there; None = the table has fewer."""
        if context > len(self.y) - TARGETS:
            return None
        rows = np.r_[:context, -TARGETS:0]
        told, kept = recode(self.x[rows], self.categorical, context)
        x = torch.from_numpy(np.ascontiguousarray(to_single(told, context)))
        return TableBatch(x[None], torch.from_numpy(self.y[rows])[None], context), self.categorical[kept]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prior_rows",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--mechanisms", nargs="+", default=COMPARED, choices=list(MECHANISMS), metavar="NAME")
    parser.add_argument("--checkpoints", nargs="+", type=Path, help="networks to measure instead; 'shipped' = ours")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 500, 1000, 5000], help="of the context")
    parser.add_argument("--steps", type=int, default=600, help="of each training, on tables that grow (default: 600)")
    parser.add_argument("--easy", type=int, default=1000, help="steps before, on small, easy tables (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and training tables (default: 0)")
    parser.add_argument("--count", type=int, default=10, help="synthetic tables to score on (default: 10)")
    parser.add_argument(
        "--tables", nargs="*", default=[], help="tables to score on too: a file, sklearn:, openml:, a folder"
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed runs, of which the median counts (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=writable_folder, default=Path("runs/prior_rows"), help="folder of the results")
    options = parser.parse_args(argv)
    check_least(parser, options, rows=2, steps=1, easy=0, seed=0, count=1, repeats=1, threads=1)
    options.rows = sorted(set(options.rows))
    for path in options.checkpoints or ():
        if str(path) != "shipped" and not path.is_file():
            parser.error(f"checkpoints: there is no file {path}")
    return options


def trained(name: str, options: argparse.Namespace) -> torch.nn.Module:
    """Network with an attention, trained here or in an earlier run."""
    path = options.out / f"{name}_{options.easy}_{options.steps}_{options.seed}.ckpt"
    if not path.is_file():
        torch.manual_seed(options.seed)
        task = PriorClassification(partial(PriorNetwork, **SIZES), attention=MECHANISMS[name])
        made = MuonAdamW(task.network.parameters(), lr=0.02, adamw_lr=3e-3, weight_decay=0.01)
        runner = Runner(name, task, made, [group["lr"] for group in made.param_groups])
        whole = options.easy + options.steps
        batches = training_tables(options.seed, options.easy, options.steps)
        for number in range(whole):
            falling = 2 * (whole - number) / options.steps
            step(runner, next(batches), min((number + 1) / 50, falling, 1.0), clip=1.0)
        save(runner, path, whole)
    return load_network(str(path)).eval()


def training_tables(seed: int, easy: int, steps: int) -> Iterator[TableBatch]:
    """Endless training tables: first small, easy ones, then of up to 1000 rows, which grow in half of the steps."""
    if easy:
        sizes: dict[str, Any] = {"rows": (30, 70), "features": (2, 6), "classes": (2, 3)}
        first = SyntheticPrior(**sizes, scm=EASY, steps_per_epoch=easy, seed=seed)
        yield from first.train_dataloader()
    limits = BatchOptions(max_cells=8000, grow=steps // 2)
    data = SyntheticPrior(rows=(40, 1000), features=(2, 12), classes=(2, 4), batches=limits, seed=seed)
    while True:
        yield from data.train_dataloader()


def tasks(options: argparse.Namespace) -> list[Task]:
    """Tables to score on: synthetic ones, and real ones with their rows in random order."""
    rows = options.rows[-1] + TARGETS
    sizes = TableSizes((rows, rows), (FEATURES, FEATURES), (2, 2), (options.rows[-1] / rows,) * 2)
    drawn = ScmBatches(sizes, DEFAULT_OPTIONS, 1, max_cells=rows * FEATURES, grow=0, seed=HELD_OUT + options.seed)
    found = []
    for index in range(options.count):
        batch = drawn[index]
        found.append(Task("synthetic", batch.x[0].numpy().astype(float), batch.y[0].numpy(), np.zeros(FEATURES, bool)))
    frames = [(frame, source) for source in options.tables for frame in load_frames(source)]
    return found + [_shuffled(encode_frame(frame, source), options.seed) for frame, source in frames]


def _shuffled(table: RealTable, seed: int) -> Task:
    order = np.random.RandomState(seed).permutation(len(table.y))
    return Task(table.name, table.x[order], table.y[order], table.categorical)


@torch.no_grad()
def answer(network: Any, batch: TableBatch) -> Tensor:
    """Probabilities of the target rows, by reading the context once, ``(targets, classes)``."""
    return network.decode(
        batch.x[:, batch.context :], network.prefill(batch.x[:, : batch.context], batch.y[:, : batch.context])
    )[0].softmax(-1)


def auc(y: np.ndarray, probabilities: np.ndarray, classes: int) -> float:
    """ROC AUC of target rows, one against the rest."""
    shown = probabilities[:, :classes] / probabilities[:, :classes].sum(1, keepdims=True)
    return float(roc_auc_score(y, shown[:, 1] if classes == 2 else shown, multi_class="ovr"))


def costs(network: Any, batch: TableBatch, repeats: int) -> dict[str, float]:
    """Seconds and peak memory of a training step on one table, and of the prediction of its targets."""

    def learn() -> None:
        network.zero_grad()
        logits = network(batch.x, batch.y, batch.context)
        torch.nn.functional.cross_entropy(logits[0], batch.y[0, batch.context :]).backward()

    def ask() -> None:
        answer(network, batch)

    device = torch.device("cpu")
    taken = median_seconds({"step": learn, "prediction": ask}, repeats, device, budget=20.0)
    return {
        "step_seconds": taken["step"],
        "prediction_seconds": taken["prediction"],
        "step_mib": peak_bytes(learn, device) / 2**20,
        "prediction_mib": peak_bytes(ask, device) / 2**20,
    }


def network_rows(name: str, network: Any, found: list[Task], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Lines of the results of a network: its costs and scores at each number of context rows."""
    for task in found:
        if task.y.max() >= network.classes:
            raise SystemExit(f"error: {task.name} has {task.y.max() + 1} classes, the network {name} {network.classes}")
    network.requires_grad_()
    for rows in options.rows:
        line: dict[str, Any] = {"name": name, "rows": rows}
        first = found[0].cut(rows)
        if first is not None:
            line |= costs(network, first[0], options.repeats)
        scores: dict[str, list[float]] = {}
        for task in found:
            if cut := task.cut(rows):
                given = answer(network, cut[0]).numpy()
                scores.setdefault(task.name, []).append(auc(task.y[-TARGETS:], given, task.y.max() + 1))
        yield line | {f"auc {each}": float(np.mean(values)) for each, values in scores.items()}


def classical_rows(name: str, found: list[Task], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Lines of the results of a classical method, fitted to the context rows; its seconds are fit and prediction."""
    for rows in options.rows:
        scores: dict[str, list[float]] = {}
        seconds = []
        for task in found:
            if (cut := task.cut(rows)) is None:
                continue
            x, y = cut[0].x[0].numpy(), cut[0].y[0].numpy()
            begun = time.perf_counter()
            model = LEVELS[name](cut[1], options.seed).fit(x[:rows], y[:rows])
            probabilities = np.zeros((TARGETS, task.y.max() + 1))
            probabilities[:, model.classes_] = model.predict_proba(x[rows:])
            seconds.append(time.perf_counter() - begun)
            scores.setdefault(task.name, []).append(auc(y[rows:], probabilities, task.y.max() + 1))
        line = {"name": name, "rows": rows, "prediction_seconds": seconds[0]}
        yield line | {f"auc {each}": float(np.mean(values)) for each, values in scores.items()}


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments that results depend on, in plain values."""
    names = ("rows", "steps", "easy", "seed", "count", "tables", "repeats", "threads")
    return {name: getattr(options, name) for name in names}


def lines_of(name: str, found: list[Task], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Lines of the results of a network, a checkpoint or a classical method."""
    if name in LEVELS:
        yield from classical_rows(name, found, options)
    elif options.checkpoints:
        network = load_network(None if name == "shipped" else name).eval()
        yield from network_rows(Path(name).stem, network, found, options)
    else:
        yield from network_rows(name, trained(name, options), found, options)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, time and score; write the results as CSV, Markdown and a picture."""
    options = arguments(argv)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    found = tasks(options)
    results: list[dict[str, Any]] = []
    for name in [*([str(path) for path in options.checkpoints or ()] or options.mechanisms), *LEVELS]:
        kept = options.out / f"{Path(name).stem}.json"
        if not kept.is_file() or (stored := json.loads(kept.read_text()))["settings"] != settings(options):
            stored = {"settings": settings(options), "lines": list(lines_of(name, found, options))}
            write_file(kept, json.dumps(stored).encode())
        results += stored["lines"]
        sys.stderr.write(f"{name} done\n")
    pd.DataFrame(results).to_csv(options.out / "prior_rows.csv", index=False)
    sys.stdout.write(report(options))


if __name__ == "__main__":
    main()
