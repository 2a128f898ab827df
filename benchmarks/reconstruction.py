"""Reconstruction against other models, fold by fold: ``python -m benchmarks.reconstruction <tables>``.

Every fold of every table is tested once: 70 % of the rows train, 20 % validate (ours alone reads them, to choose the
checkpoint), 10 % test. All methods have the same rows. Each result is appended to a CSV file beside the report as it is
found, and a repeated command goes on with those that are missing. Further arguments go to the command line of our
training, such as ``--model.attention=Local``.
"""

import argparse
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, Trainer
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_squared_error, roc_auc_score
from tqdm import tqdm

import callbacks  # noqa: F401  (these make the names of the configuration known)
import datamodules  # noqa: F401
import tabattn.tasks  # noqa: F401
from benchmarks.reconstruction_methods import EXTRA, LARGEST, METHODS
from benchmarks.reconstruction_report import report
from benchmarks.reports import add_out, check_least, check_trainings, publish
from datamodules import TableCells
from datamodules.reconstruction.options import SplitOptions
from tabattn.training.cli import CLI

CONFIG = Path(__file__).parents[1] / "configs" / "reconstruction.yaml"
OURS = "ours"
QUIET = [f"--trainer.enable_{what}=false" for what in ("progress_bar", "model_summary")] + ["--trainer.logger=false"]
TAKEN = ("--data.table", "--data.split.fold", "--data.split.folds", "--data.seed", "--seed_everything")

DEFAULTS = {"folds": 10, "seed": 42}
"""Number of folds and seed where they are not named."""

Row = dict[str, Any]


def trained(words: Sequence[str], watchers: Sequence[Callback] = ()) -> tuple[CLI, Row]:
    """Train by the configuration and further arguments, and test the best checkpoint once.

    Returns:
        What was trained, and the scores of the test.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = [f"--trainer.default_root_dir={folder}", f"--checkpoint.dirpath={folder}/checkpoints"]
        cli = CLI([f"--config={CONFIG}", *root, *QUIET, *words], run=False)
        trainer: Trainer = cli.trainer
        trainer.callbacks.extend(watchers)  # type: ignore[attr-defined]
        trainer.fit(cli.model, cli.datamodule)
        best = trainer.checkpoint_callback.best_model_path  # type: ignore[union-attr]
        found = trainer.test(cli.model, cli.datamodule, ckpt_path=best, weights_only=True, verbose=False)[0]
    scores = {name.removeprefix("test/"): float(value) for name, value in found.items() if name.startswith("test/")}
    return cli, scores


def ours(source: str, fold: int, options: argparse.Namespace) -> Row:
    """Scores of our configuration."""
    data = [f"--data.table={source}", f"--data.split.fold={fold}", f"--data.split.folds={options.folds}"]
    return trained([*data, f"--seed_everything={options.seed}", *options.further])[1]


def baseline(name: str, data: TableCells, options: argparse.Namespace) -> Row | None:
    """Scores of a baseline on the test rows; None if there are too many rows for it."""
    cells, table = data.prepared.cells, data.prepared.table
    at = next(place for place, column in enumerate(data.columns) if column.target)
    roles = cells.roles.numpy()
    x = np.delete(table.cells, [place for place, column in enumerate(data.columns) if column.target], axis=1)
    y = table.cells[:, at]
    categorical = np.array([bool(column.categories) for column in data.columns if not column.target])
    train, test = (roles == 0) & ~np.isnan(y), (roles == 2) & ~np.isnan(y)
    if name == "Gaussian process" and train.sum() > LARGEST:
        return None
    classes = bool(data.columns[at].categories)
    model = METHODS[name](categorical, options.seed, classes)
    mean, std = (0.0, 1.0) if classes else (y[train].mean(), y[train].std())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x[train], y[train].astype(int) if classes else (y[train] - mean) / std)
        if not classes:
            found = np.asarray(model.predict(x[test]), dtype=float).ravel() * std + mean
            return {"rmse": mean_squared_error(y[test], found) ** 0.5, "mae": mean_absolute_error(y[test], found)}
        return categorical_scores(y[test].astype(int), model.predict_proba(x[test]))


def categorical_scores(y: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Row:
    """ROC AUC, accuracy and log-loss of probabilities."""
    labels = np.arange(probabilities.shape[1])
    given = probabilities[:, 1] if len(labels) == 2 else probabilities
    return {
        "auroc": roc_auc_score(y, given, multi_class="ovr", labels=labels),
        "accuracy": accuracy_score(y, probabilities.argmax(1)),
        "nll": log_loss(y, probabilities, labels=labels),
    }


def measure(source: str, fold: int, method: str, options: argparse.Namespace) -> Row | None:
    """Scores and seconds of a method on a fold of a table; None if it does not serve the table."""
    data = TableCells(source, split=SplitOptions(folds=options.folds, fold=fold))
    if sum(column.target for column in data.columns) > 1:
        raise SystemExit(f"{source} has several targets: name one, as {source}::<column>")
    start = time.perf_counter()
    scores = ours(source, fold, options) if method == OURS else baseline(method, data, options)
    if scores is None:
        return None
    seconds = time.perf_counter() - start
    return {"table": data.prepared.name, "fold": fold, "method": method, "seconds": seconds, **scores}


def measure_all(options: argparse.Namespace) -> pd.DataFrame:
    """Measure what the CSV file does not hold, and append it there.

    Returns:
        What was measured with these folds and this seed, of ours with these arguments too.
    """
    path: Path = options.out.with_suffix(".csv")
    keys = ["source", "fold", "method", "flags"]
    done = pd.DataFrame(columns=keys)
    if path.exists():
        done = pd.read_csv(path, dtype={"flags": str})
    done["flags"] = done["flags"].fillna("")
    own = {"folds": options.folds, "seed": options.seed}
    for name, default in DEFAULTS.items():
        done[name] = done.get(name, default)  # files of earlier versions do not say
    flags = " ".join(options.further)
    alike = (done[list(own)] == pd.Series(own)).all(axis=1)
    known = set(done.loc[alike, keys].itertuples(index=False, name=None))
    jobs = [
        (source, fold, method)
        for fold in options.only or range(options.folds)
        for source in options.tables
        for method in options.methods
        if (source, fold, method, flags if method == OURS else "") not in known
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = done.to_dict("records")
    for source, fold, method in tqdm(jobs, unit="fold", disable=None):
        if (found := measure(source, fold, method, options)) is not None:
            rows.append({"source": source, "flags": flags if method == OURS else "", **own, **found})
            pd.DataFrame(rows).to_csv(path, index=False)
    found_all = pd.DataFrame(rows)
    alike = (found_all[list(own)] == pd.Series(own)).all(axis=1)
    return found_all[alike & ((found_all["method"] != OURS) | (found_all["flags"] == flags))].reset_index(drop=True)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reconstruction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("tables", nargs="+", help="table sources: files or sklearn:<name>, each with ::<target> or not")
    names = [OURS, *METHODS]
    parser.add_argument("--methods", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--folds", type=int, default=DEFAULTS["folds"])
    parser.add_argument("--only", nargs="+", type=int, metavar="FOLD", help="only these folds")
    parser.add_argument("--seed", type=int, default=DEFAULTS["seed"])
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default: 1)")
    add_out(parser, "reconstruction.md", [".csv"])
    options, further = parser.parse_known_args(argv)
    check_least(parser, options, folds=2, only=0, threads=1, seed=0)
    if options.only and max(options.only) >= options.folds:
        parser.error(f"only: folds are 0 to {options.folds - 1}, got {max(options.only)}")
    options.further = check_trainings(parser, further, TAKEN)
    here = [name for name in names if name not in EXTRA or find_spec(EXTRA[name])]
    options.methods = options.methods or here
    if absent := [name for name in options.methods if name not in here]:
        parser.error(f"{absent[0]} needs a package: pip install 'tabattn[baselines]'")
    return options


def main() -> None:
    """Measure, and write the report."""
    options = arguments()
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    results = measure_all(options)
    publish(report(results, options), options.out)
    sys.stdout.write(f"{options.out}\n")


if __name__ == "__main__":
    main()
