"""Comparison of TabularRegressor with classical methods: ``python -m benchmarks.regression <tables>``.

A table is a source, such as ``yacht.csv.gz`` or ``sklearn:diabetes``, with ``::<column>`` for the target where that is
not the last column; or a folder with ``index.csv``, which has the columns ``name``, ``file`` and ``target``. All
methods have the same folds; columns are encoded by the training rows of each. A table is scored on all its folds
together.
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
import torch
from sklearn.model_selection import KFold

from benchmarks.measure import provenance
from benchmarks.openml import check_index
from benchmarks.regression_report import OURS, report
from benchmarks.regressors import REGRESSORS, Numbers
from benchmarks.reports import add_out, check_least, publish
from datamodules.tables.sources import load_columns
from tabattn import TabularRegressor
from tabattn.contract.columns import TableEncoder
from tabattn.contract.errors import DataError
from tabattn.prior.estimator.distributions import Distribution
from tabattn.prior.estimator.target_scale import check_targets
from tabattn.prior.weights import packaged_path

PARTS = {"its kernel member alone": 1.0, "its network alone": 0.0}
"""Weight of the kernel member of parts of TabularRegressor."""

LEVELS = (np.arange(199) + 0.5) / 199
"""Probabilities of the quantiles whose losses add up to the CRPS."""

Predict = Callable[[pd.DataFrame, Numbers, pd.DataFrame], Distribution]
"""Function of training rows, their targets, and test rows; returns the predictive distributions."""


class Table(NamedTuple):
    """Table with a numeric target."""

    name: str
    x: pd.DataFrame
    y: Numbers


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regression", description=__doc__, allow_abbrev=False)
    parser.add_argument("tables", nargs="+", metavar="TABLE", help="sources, or folders with index.csv")
    parser.add_argument("--model", help="weights or checkpoint; without it, the packaged weights")
    known = [*PARTS, *REGRESSORS]
    parser.add_argument("--methods", nargs="+", choices=known, default=known, metavar="NAME", help="beside ours (all)")
    parser.add_argument("--max-rows", type=int, default=1000, help="rows of a random sample (default: 1000)")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--estimators", type=int, help="members of our network; without it, the default")
    parser.add_argument("--device", default="auto", help="where our network runs (default: auto)")
    parser.add_argument("--resume", action="store_true", help="keep scores of equal settings in the CSV beside --out")
    add_out(parser, "regression.md", [".csv"])
    options = parser.parse_args(argv)
    check_least(parser, options, max_rows=10, folds=2, estimators=1, seed=0)
    if options.model is not None and not Path(options.model).is_file():
        parser.error(f"model: there is no file {options.model}")
    options.sources = [source for word in options.tables for source in sources(parser, word)]
    return options


def sources(parser: argparse.ArgumentParser, word: str) -> list[str]:
    """Source of a table, or those that a folder lists."""
    folder = Path(word)
    if not folder.is_dir():
        return [word]
    check_index(parser, argparse.Namespace(folder=folder, tables=None))
    index = pd.read_csv(folder / "index.csv")
    return [f"{folder / line.file}::{line.target}" for line in index.itertuples()]


def load(source: str, options: argparse.Namespace) -> Table:
    """Load a table, a large one as a sample of rows.

    Raises:
        ValueError: It has no such target, or that is no number.
        DataError: It cannot be read.
    """
    whole = load_columns(source)
    if whole.target not in whole.columns:
        raise ValueError(f"{source} has no column {whole.target!r}: name its target as ::<column>")
    rows = np.sort(np.random.RandomState(options.seed).permutation(len(whole.columns))[: options.max_rows])
    chosen = whole.columns.iloc[rows].reset_index(drop=True)
    return Table(whole.name, chosen.drop(columns=whole.target), check_targets(chosen[whole.target]))


def ours(options: argparse.Namespace, kernel_weight: float | str | None) -> Predict:
    """TabularRegressor, which encodes columns itself."""

    def predict(x: pd.DataFrame, y: Numbers, rest: pd.DataFrame) -> Distribution:
        model = TabularRegressor(
            options.model,
            n_estimators=options.estimators,
            kernel_weight=kernel_weight,
            device=options.device,
            random_state=options.seed,
        )
        return model.fit(x, y).distribution(rest)

    return predict


def baseline(name: str, seed: int) -> Predict:
    """Classical method after the column encoder."""

    def predict(x: pd.DataFrame, y: Numbers, rest: pd.DataFrame) -> Distribution:
        encoder = TableEncoder().fit(x)
        return REGRESSORS[name](encoder.categorical_, seed, encoder.transform(x), y, encoder.transform(rest))

    return predict


def evaluate(table: Table, predict: Predict, options: argparse.Namespace) -> dict[str, float]:
    """Scores of one method on one table, from the predictions of all folds."""
    scores = {name: np.zeros(len(table.y)) for name in ("square", "nll", "crps", "coverage")}
    seconds = 0.0
    for train, test in KFold(options.folds, shuffle=True, random_state=options.seed).split(table.x):
        start = time.process_time()
        found = predict(table.x.iloc[train], table.y[train], table.x.iloc[test])
        mean = found.mean()
        seconds += time.process_time() - start
        for name, values in score(found, mean, table.y[test]).items():
            scores[name][test] = values
    means = {name: float(values.mean()) for name, values in scores.items()}
    square = means.pop("square")
    return {"rmse": square**0.5, "r2": 1 - square / float(table.y.var()), **means, "seconds": seconds}


def score(found: Distribution, mean: Numbers, y: Numbers) -> dict[str, Numbers]:
    """Squared error of the mean, negative log-density, CRPS and membership of the 90 % interval, of each row."""
    error = y[:, None] - found.quantile(LEVELS)
    low, high = found.quantile(np.array([0.05, 0.95])).T
    return {
        "square": np.square(y - mean),
        "nll": -found.log_density(y),
        "crps": 2 * np.maximum(LEVELS * error, (LEVELS - 1) * error).mean(1),
        "coverage": ((low <= y) & (y <= high)).astype(np.float64),
    }


def measure(options: argparse.Namespace) -> pd.DataFrame:
    """Scores of every method on every table, a row for each, which are written one by one."""
    methods = {OURS: ours(options, "stacked")}
    for name in options.methods:
        methods[name] = ours(options, PARTS[name]) if name in PARTS else baseline(name, options.seed)
    path, rows = options.out.with_suffix(".csv"), []
    earlier = (
        pd.read_csv(path, dtype={"model": str}, keep_default_na=False) if options.resume and path.is_file() else None
    )
    for source in options.sources:
        table = load(source, options)
        for name, predict in methods.items():
            settings = described(table, name, options)
            kept = None if earlier is None else same(earlier, settings)
            rows.append(kept or {**settings, **evaluate(table, predict, options)})
            publish(pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"), path)
            sys.stderr.write(f"{table.name}: {name} {'kept' if kept else 'done'}\n")
    return pd.DataFrame(rows)


def described(table: Table, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """Settings on which the scores of a method on a table depend."""
    digest = digest_of(options) if method == OURS or method in PARTS else ""
    sizes = {"rows": len(table.y), "features": table.x.shape[1], "folds": options.folds, "seed": options.seed}
    return {"table": table.name, **sizes, "method": method, "model": digest}


def digest_of(options: argparse.Namespace) -> str:
    """Start of the hash of the weights."""
    path = packaged_path("regression") if options.model is None else Path(options.model)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def same(earlier: pd.DataFrame, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Line of an earlier run with equal settings; None = there is none."""
    for line in earlier.to_dict("records"):
        if all(line.get(name) == value for name, value in settings.items()):
            return {str(name): value for name, value in line.items()}
    return None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write the report, and print it."""
    options = arguments(argv)
    with warnings.catch_warnings():
        # Categories that are missing in a fold's training rows are normal here.
        warnings.filterwarnings("ignore", message="Found unknown categories")
        try:
            scores = measure(options)
        except (DataError, ValueError) as ex:
            sys.stderr.write(f"error: {ex}\n")
            raise SystemExit(3) from None
    name = "the packaged weights" if options.model is None else Path(options.model).name
    text = report(scores, provenance(torch.device("cpu")), f"{name} (SHA-256 {digest_of(options)})", options)
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
