"""Comparison of TabularImputer with classical imputers: ``python -m benchmarks.imputation --tables <folder>``.

Of each table a sample of rows is taken; cells are hidden by a mechanism at a rate, and filled by each method, all of
which see the same cells. Results are appended to a CSV file, so that an interrupted comparison goes on where it was.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from benchmarks.imputation_report import BASELINE, CONTROL, OURS, report
from benchmarks.measure import provenance
from benchmarks.missingness import MECHANISMS, Mechanism, hide, shuffled
from benchmarks.reports import add_out, check_least, publish
from datamodules.tables.sources import load_columns
from tabattn import TabularImputer
from tabattn.contract.columns import is_numeric
from tabattn.contract.errors import DataError
from tabattn.reconstruction.estimator import IMPUTATION

Impute = Callable[[pd.DataFrame], pd.DataFrame]
"""Function of a table with missing cells, which returns it filled; numbers as numbers, categories as text."""

KEY = ["table", "mechanism", "rate", "method"]
ENDINGS = (".csv", ".tsv", ".arff", ".parquet", ".csv.gz", ".tsv.gz", ".arff.gz")


class Case(NamedTuple):
    """One table with hidden cells."""

    table: str
    mechanism: Mechanism
    rate: float
    control: bool


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imputation", description=__doc__, allow_abbrev=False)
    parser.add_argument("--tables", type=Path, required=True, metavar="FOLDER", help="folder of tables as files")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these, by the names of their files")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.3, 0.1, 0.5], help="shares of hidden cells")
    parser.add_argument("--mechanisms", nargs="+", choices=MECHANISMS, default=list(MECHANISMS))
    parser.add_argument("--max-rows", type=int, default=1000, help="rows of a sample (default: 1000)")
    parser.add_argument("--steps", type=int, default=IMPUTATION.steps, help="training steps of TabularImputer")
    parser.add_argument("--members", type=int, default=1, help="networks of TabularImputer (default: 1)")
    parser.add_argument("--trees", type=int, default=100, help="trees of IterativeImputer(ExtraTrees) (default: 100)")
    parser.add_argument("--seed", type=int, default=0)
    add_out(parser, "imputation.md", [".csv"])
    options = parser.parse_args(argv)
    check_least(parser, options, max_rows=20, steps=1, members=1, trees=1, seed=0)
    if wrong := [rate for rate in options.rates if not 0 < rate <= 0.5]:
        parser.error(f"rates must be above 0 and at most 0.5, got {wrong[0]:g}")
    if not options.tables.is_dir():
        parser.error(f"tables: there is no folder {options.tables}")
    options.files = files(options.tables)
    if unknown := [name for name in options.only or () if name not in options.files]:
        parser.error(f"no table is called {unknown[0]!r}; tables: {', '.join(options.files)}")
    return options


def files(folder: Path) -> dict[str, Path]:
    """Tables of a folder by the names of their files, without an index of the folder."""
    found = {path.name: path for path in sorted(folder.iterdir()) if path.name.endswith(ENDINGS)}
    return {name.partition(".")[0]: path for name, path in found.items() if name != "index.csv"}


def sample(path: Path, most: int, seed: int) -> pd.DataFrame:
    """Rows of a table at random, without columns that do not vary; categories are text."""
    table = load_columns(str(path)).columns
    rows = np.sort(np.random.default_rng(seed).permutation(len(table))[:most])
    table = table.iloc[rows].reset_index(drop=True)
    table = table[[name for name in table if table[name].nunique() > 1]]
    numeric = {name: is_numeric(table[name]) for name in table}
    return pd.DataFrame(
        {name: table[name].astype(np.float64) if numeric[name] else _text(table[name]) for name in table}
    )


def _text(column: pd.Series) -> pd.Series:
    return column.astype(object).map(str, na_action="ignore").astype("str")


def methods(options: argparse.Namespace) -> dict[str, Impute]:
    """Every method by its name; ours is the last."""
    forest = ExtraTreesRegressor(options.trees, random_state=options.seed)
    return {
        BASELINE: mean_or_mode,
        "nearest neighbours": lambda table: encoded(table, KNNImputer()),
        "IterativeImputer(ExtraTrees)": lambda table: encoded(
            table, IterativeImputer(forest, max_iter=5, random_state=options.seed)
        ),
        OURS: lambda table: TabularImputer(
            max_steps=options.steps, n_members=options.members, random_state=options.seed
        ).fit_transform(table),
    }


def mean_or_mode(table: pd.DataFrame) -> pd.DataFrame:
    """Means of numbers, and the most frequent categories."""
    parts = {}
    for name in table:
        kind = "mean" if is_numeric(table[name]) else "most_frequent"
        column = table[[name]].astype(float if kind == "mean" else object)
        parts[name] = SimpleImputer(strategy=kind, missing_values=np.nan).fit_transform(column)[:, 0]
    return pd.DataFrame(parts)


def encoded(table: pd.DataFrame, imputer: KNNImputer | IterativeImputer) -> pd.DataFrame:
    """Fill by an imputer of numbers: they are standardised, and a category is the largest of its indicators."""
    pieces: dict[str, pd.DataFrame] = {}
    for name in table:
        column = table[name]
        if is_numeric(column):
            pieces[name] = ((column - column.mean()) / (column.std() or 1.0)).to_frame()
        else:
            known = pd.get_dummies(column).astype(float)
            known.loc[column.isna().to_numpy()] = np.nan
            pieces[name] = known
    filled = imputer.set_output(transform="default").fit_transform(np.concatenate(list(pieces.values()), axis=1))
    out, start = {}, 0
    for name, piece in pieces.items():
        part = filled[:, start : start + piece.shape[1]]
        start += piece.shape[1]
        if is_numeric(table[name]):
            out[name] = part[:, 0] * (table[name].std() or 1.0) + table[name].mean()
        else:
            out[name] = piece.columns.to_numpy(object)[part.argmax(1)]
    return pd.DataFrame(out)


def scores(truth: pd.DataFrame, found: pd.DataFrame, hidden: NDArray[np.bool_]) -> dict[str, float]:
    """Errors of hidden cells.

    ``nrmse`` is the mean over numeric columns of the root mean squared error in standard deviations of the complete
    column; ``error`` the share of hidden categories that are wrong. NaN = no such cell is hidden.
    """
    roots, wrong = [], []
    for place, name in enumerate(truth):
        rows = hidden[:, place]
        if not rows.any():
            continue
        if is_numeric(truth[name]):
            error = found[name].to_numpy(np.float64)[rows] - truth[name].to_numpy(np.float64)[rows]
            roots.append(float(np.sqrt(np.square(error).mean()) / truth[name].std()))
        else:
            wrong += (found[name].to_numpy(object)[rows] != truth[name].to_numpy(object)[rows]).tolist()
    return {
        "nrmse": float(np.mean(roots)) if roots else float("nan"),
        "error": float(np.mean(wrong)) if wrong else float("nan"),
    }


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Cases in an order in which an interrupted comparison has all tables."""
    names = options.only or list(options.files)
    for rate in options.rates:
        for mechanism in options.mechanisms:
            yield from (Case(name, mechanism, rate, control=False) for name in names)
    yield from (Case(name, "MCAR", options.rates[0], control=True) for name in names)


def measure(options: argparse.Namespace, path: Path) -> pd.DataFrame:
    """Run what the CSV file does not hold yet, and return all of it."""
    done = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=KEY)
    known = set(done[KEY].astype({"rate": float}).itertuples(index=False, name=None))
    for case in cases(options):
        mechanism = CONTROL if case.control else case.mechanism
        missing = [name for name in methods(options) if (case.table, mechanism, case.rate, name) not in known]
        if not missing:
            continue
        table = sample(options.files[case.table], options.max_rows, options.seed)
        table = shuffled(table, options.seed) if case.control else table
        hidden = hide(table, case.mechanism, case.rate, options.seed)
        for name in missing:
            start = time.perf_counter()
            found = methods(options)[name](table.mask(hidden))
            seconds = time.perf_counter() - start
            shape = {"rows": len(table), "columns": table.shape[1]}
            line = {"table": case.table, "mechanism": mechanism, "rate": case.rate, "method": name, **shape}
            row = pd.DataFrame([{**line, **scores(table, found, hidden), "seconds": seconds}])
            row.to_csv(path, mode="a", header=not path.is_file(), index=False, float_format="%.6g")
        sys.stderr.write(f"{case.table} {mechanism} {case.rate:g} done\n")
    return pd.read_csv(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write the report, and print it."""
    options = arguments(argv)
    path = options.out.with_suffix(".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # A fixed number of rounds is not converged, and some columns of a sample are nearly text.
        warnings.simplefilter("ignore")
        try:
            found = measure(options, path)
        except DataError as ex:
            sys.stderr.write(f"error: {ex}\n")
            raise SystemExit(3) from None
    protocol = (
        f"At most {options.max_rows} rows of a table at random, all its columns with the target among them, seed "
        f"{options.seed}. TabularImputer: its defaults, {options.steps} steps at most, {options.members} network(s). "
        f"IterativeImputer: {options.trees} trees, 5 rounds. It and nearest neighbours (5) see categories as "
        "indicators, and numbers standardised. MAR hides cells of every second column. Errors are of the hidden cells."
    )
    text = report(
        found, f"Written by `python -m benchmarks.imputation` on {provenance(torch.device('cpu'))}.", protocol
    )
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
