"""Comparison of TabularClassifier with classical methods on OpenML tables: ``python -m benchmarks.openml <folder>``.

The folder holds tables as files, and ``index.csv`` with the columns ``name``, ``file`` and ``target``. All methods have
the same folds; columns are encoded by the training rows of each fold. A table is scored on the pooled predictions of
its folds.
"""

import argparse
import hashlib
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from benchmarks.baselines import BASELINES
from benchmarks.measure import provenance
from benchmarks.openml_report import OURS, report
from benchmarks.reports import add_out, check_least, publish
from datamodules.tables.sources import load_frame
from tabattn import TabularClassifier
from tabattn.contract.columns import TableEncoder, encode_labels
from tabattn.contract.devices import resolve_device
from tabattn.contract.errors import DataError
from tabattn.prior.estimator.codes import sample_rows
from tabattn.prior.weights import packaged_path

PARTS = {"its kernel member alone": 1.0, "its network alone": 0.0}
"""Weight of the kernel member of parts of TabularClassifier."""

Predict = Callable[[pd.DataFrame, NDArray[np.int64], pd.DataFrame], tuple[NDArray[Any], NDArray[np.float64]]]
"""Function of training rows, their classes, and test rows; returns the classes and their probabilities."""


class Table(NamedTuple):
    """Table with at least as many rows of each class as there are folds."""

    name: str
    x: pd.DataFrame
    y: NDArray[np.int64]


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.openml", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="folder with index.csv and its files")
    parser.add_argument("--model", help="weights or checkpoint; without it, the packaged weights")
    parser.add_argument("--tables", nargs="+", metavar="NAME", help="only these")
    known, usual = [*PARTS, *BASELINES], [next(iter(PARTS)), *BASELINES]
    parser.add_argument("--methods", nargs="+", choices=known, default=usual, metavar="NAME", help="beside ours")
    parser.add_argument("--max-rows", type=int, default=1000, help="rows of a stratified sample (default: 1000)")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--estimators", type=int, help="members of our network; without it, the default")
    parser.add_argument("--kernel-weight", type=float, help="weight of our kernel member; without it, the default")
    parser.add_argument("--device", default="auto", help="where our network runs (default: auto)")
    add_out(parser, "openml.md", [".csv"])
    options = parser.parse_args(argv)
    check_least(parser, options, max_rows=10, folds=2, estimators=1, seed=0)
    if options.kernel_weight is not None and not 0 <= options.kernel_weight <= 1:
        parser.error(f"argument --kernel-weight: must be between 0 and 1, got {options.kernel_weight}")
    if options.model is not None and not Path(options.model).is_file():
        parser.error(f"model: there is no file {options.model}")
    check_index(parser, options)
    return options


def check_index(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Check that the folder has an index with its columns, the requested tables and their files."""
    path = options.folder / "index.csv"
    if not path.is_file():
        parser.error(f"there is no {path}")
    index = pd.read_csv(path)
    if missing := [name for name in ("name", "file", "target") if name not in index]:
        parser.error(f"{path} has no column {missing[0]}, but {', '.join(index.columns)}")
    if unknown := [name for name in options.tables or () if name not in set(index["name"])]:
        parser.error(f"no table is called {unknown[0]!r}; tables: {', '.join(index['name'])}")
    for line in index.itertuples():
        if (not options.tables or line.name in options.tables) and not (options.folder / line.file).is_file():
            parser.error(f"there is no {options.folder / line.file}, which {path} lists")


def tables(options: argparse.Namespace) -> list[Table]:
    """Load the requested tables."""
    index = pd.read_csv(options.folder / "index.csv").set_index("name")
    names = options.tables or list(index.index)
    loaded = []
    for name in names:
        frame = load_frame(str(options.folder / index.loc[name, "file"]), index.loc[name, "target"])
        loaded.append(sample(Table(name, frame.x, encode_labels(frame.y)[0]), options))
    return loaded


def sample(table: Table, options: argparse.Namespace) -> Table:
    """Draw a stratified sample, and drop classes with fewer rows than there are folds."""
    rows = sample_rows(table.y, options.max_rows, np.random.RandomState(options.seed))
    y = table.y[rows]
    kept = np.isin(y, np.flatnonzero(np.bincount(y) >= options.folds))
    return Table(
        table.name, table.x.iloc[rows[kept]].reset_index(drop=True), np.unique(y[kept], return_inverse=True)[1]
    )


def ours(options: argparse.Namespace, kernel_weight: float | None) -> Predict:
    """TabularClassifier, which encodes columns itself."""
    given: dict[str, Any] = {
        "n_estimators": options.estimators,
        "kernel_weight": kernel_weight,
        "device": options.device,
    }

    def predict(x: pd.DataFrame, y: NDArray[np.int64], rest: pd.DataFrame) -> tuple[Any, Any]:
        model = TabularClassifier(options.model, random_state=options.seed, **given).fit(x, y)
        return model.classes_, model.predict_proba(rest)

    return predict


def baseline(name: str, seed: int) -> Predict:
    """Baseline after the column encoder."""

    def predict(x: pd.DataFrame, y: NDArray[np.int64], rest: pd.DataFrame) -> tuple[Any, Any]:
        encoder = TableEncoder().fit(x)
        model = BASELINES[name](encoder.categorical_, seed).fit(encoder.transform(x), y)
        return model.classes_, model.predict_proba(encoder.transform(rest))

    return predict


def evaluate(table: Table, predict: Predict, options: argparse.Namespace) -> dict[str, float]:
    """Scores of one method on one table, from the pooled predictions of all folds."""
    splitter = StratifiedKFold(options.folds, shuffle=True, random_state=options.seed)
    probabilities = np.zeros((len(table.y), table.y.max() + 1))
    start = time.process_time()
    for train, test in splitter.split(table.x, table.y):
        classes, found = predict(table.x.iloc[train], table.y[train], table.x.iloc[test])
        probabilities[np.ix_(test, classes)] = found
    seconds = time.process_time() - start
    binary = probabilities.shape[1] == 2
    return {
        "auc": float(roc_auc_score(table.y, probabilities[:, 1] if binary else probabilities, multi_class="ovr")),
        "accuracy": float(accuracy_score(table.y, probabilities.argmax(1))),
        "log_loss": float(log_loss(table.y, probabilities)),
        "seconds": seconds,
    }


def measure(options: argparse.Namespace) -> pd.DataFrame:
    """Scores of every method on every table, a row for each."""
    methods = {OURS: ours(options, options.kernel_weight)}
    for name in options.methods:
        methods[name] = ours(options, PARTS[name]) if name in PARTS else baseline(name, options.seed)
    rows = []
    for table in tables(options):
        sizes = {"rows": len(table.y), "features": table.x.shape[1], "classes": int(table.y.max()) + 1}
        for name, predict in methods.items():
            rows.append({"table": table.name, **sizes, "method": name, **evaluate(table, predict, options)})
        sys.stderr.write(f"{table.name} done\n")
    return pd.DataFrame(rows)


def weights(options: argparse.Namespace) -> str:
    """Name of the weights, with the start of their hash."""
    path = packaged_path() if options.model is None else Path(options.model)
    name = "the packaged weights" if options.model is None else path.name
    return f"{name} (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]})"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write the report, and print the summary."""
    options = arguments(argv)
    with warnings.catch_warnings():
        # Categories that are missing in a fold's training rows are normal here.
        warnings.filterwarnings("ignore", message="Found unknown categories")
        try:
            scores = measure(options)
        except DataError as ex:
            sys.stderr.write(f"error: {ex}\n")
            raise SystemExit(3) from None
    device = resolve_device(options.device)
    protocol = (
        f"At most {options.max_rows} rows by stratified sample, {options.folds} stratified folds, seed {options.seed}; "
        f"classes with fewer rows than folds are left out. Weights: {weights(options)}. CPU seconds are for fit "
        "and prediction of all folds."
    )
    text = report(scores, f"Written by `python -m benchmarks.openml` on {provenance(device)}.", protocol)
    publish(text, options.out)
    scores.to_csv(options.out.with_suffix(".csv"), index=False, float_format="%.6g")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
