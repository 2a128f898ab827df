"""SequenceInferrer with default settings beside simple methods: ``python -m benchmarks.sequence_inferrer``.

The last column of each table is inferred from the others and from a quarter of its own values, in windows of the last
rows, which nothing was fitted to: from its first values (forecast), or from values at random (interp). A table is
``FILE.csv:COLUMN,COLUMN,...``, whose rows are in the order of time, or ``FILE.csv:COLUMN,COLUMN,...:FIRST`` from a row
on; without one, two generated tables are taken. The CSV file beside the report has a row for each table, method, seed
and way; those that it has already are not measured again.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from benchmarks.attention_law import append
from benchmarks.reports import add_out, check_least, publish
from benchmarks.sequence_baselines import BASELINES, Floats, Window
from benchmarks.sequence_inferrer_report import COVERED, OURS, report
from datamodules.pairs.options import WindowOptions
from examples.rooms import rooms
from tabattn import SequenceInferrer

WAYS = ("forecast", "interp")
GENERATED = ("rooms", "curves")
STRIDE = 4
"""Rows between the windows that baselines learn from, a quarter of the stride of those to score."""


class Table(NamedTuple):
    """Table to infer the last column of.

    Attributes:
        name: Name in the report.
        values: Its values, ``(rows, columns)``; NaN = not observed.
        train: Number of leading rows to fit to.
        length: Rows of a window.
    """

    name: str
    values: Floats
    train: int
    length: int

    @property
    def scale(self) -> float:
        """Standard deviation of the column to infer in the rows to fit to."""
        return float(np.nanstd(self.values[: self.train, -1]))

    def windows(self, start: int, stop: int, stride: int, way: str) -> list[tuple[int, Window]]:
        """Windows with their first rows; those without context, or without a value to score, are left out."""
        source = np.random.default_rng(0)
        made = []
        for first in range(start, stop - self.length + 1, stride):
            part, shown = self.values[first : first + self.length], np.zeros(self.length, dtype=bool)
            few = self.length // 4
            shown[np.arange(few) if way == "forecast" else source.choice(self.length, few, replace=False)] = True
            window = Window(np.arange(self.length, dtype=np.float64), part[:, -1], part[:, :-1], shown)
            if window.known.any() and window.hidden.any():
                made.append((first, window))
        return made


class Inferred(NamedTuple):
    """Predictions of values, each ``(values,)``: truth, mean, log-density of the truth, ends of the 90 % interval."""

    truth: Floats
    mean: Floats
    log_density: Floats
    low: Floats
    high: Floats

    def scores(self, scale: float) -> dict[str, float]:
        """Scores in units of ``scale``."""
        return {
            "ll": float(self.log_density.mean() + np.log(scale)),
            "rmse": float(np.sqrt(((self.truth - self.mean) ** 2).mean()) / scale),
            COVERED: float(((self.low <= self.truth) & (self.truth <= self.high)).mean()),
        }


def curves(rows: int = 1500) -> pd.DataFrame:
    """Two smooth random curves: the second follows the first three rows later, and has a rougher one of its own."""
    source = np.random.default_rng(1)

    def curve(length: float) -> Floats:
        reach = int(4 * length)
        weights = np.exp(-((np.arange(-reach, reach + 1) / length) ** 2))
        drawn = np.convolve(source.normal(size=rows + 2 * reach), weights, "valid")
        return np.asarray(drawn / drawn.std())

    first = curve(8.0)
    second = 0.8 * np.roll(first, 3) + 0.5 * curve(5.0)
    noise = 0.05 * source.normal(size=(2, rows))
    return pd.DataFrame({"first": first + noise[0], "second": second + noise[1]})


def read_table(named: str, options: argparse.Namespace) -> Table:
    """Read a table, or generate one of ``GENERATED``.

    Raises:
        ValueError: There is no such file or column, a column holds no numbers, or there are too few rows.
    """
    if named in GENERATED:
        frame = rooms()[["outside", "inside"]] if named == "rooms" else curves()
        name = named
    else:
        path, _, chosen = named.partition(":")
        chosen, _, first = chosen.partition(":")
        columns = chosen.split(",")
        if len(columns) < 2 or not (first or "0").isdecimal():
            form = "FILE.csv:COLUMN,COLUMN,... or FILE.csv:COLUMN,COLUMN,...:FIRST"
            raise ValueError(f"a table must be {form} or {' or '.join(GENERATED)}, got {named}")
        if not Path(path).is_file():
            raise ValueError(f"there is no file {path}")
        whole = pd.read_csv(path).iloc[int(first or 0) :]
        if unknown := [column for column in columns if column not in whole.columns]:
            raise ValueError(f"{path} has no column {unknown[0]}; columns: {', '.join(whole.columns)}")
        frame, name = whole[columns], f"{Path(path).stem}: {', '.join(columns[:-1])} → {columns[-1]}"
    try:
        values = frame.iloc[: options.rows].to_numpy(dtype=np.float64)
    except ValueError as ex:
        raise ValueError(f"{named} must have columns of numbers: {ex}") from ex
    train = len(values) - round(options.test * len(values))
    if min(round(0.2 * train), len(values) - train) < options.length:
        raise ValueError(f"{named} must have a window of {options.length} rows in each part, got {len(values)} rows")
    return Table(name, values, train, options.length)


def measure_baselines(table: Table, way: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Fit and score each baseline."""
    train = [window for _, window in table.windows(0, table.train, STRIDE, way)]
    scored = [window for _, window in table.windows(table.train, len(table.values), table.length // 4, way)]
    for name, learn in BASELINES.items():
        start = time.process_time()
        infer = learn(train)
        seconds = time.process_time() - start
        parts = []
        for window in scored:
            mean, std = infer(window)
            truth = window.y[window.hidden]
            ends = (mean + std * stats.norm.ppf(level) for level in (0.05, 0.95))
            parts.append(Inferred(truth, mean, stats.norm.logpdf(truth, mean, std), *ends))
        yield name, {**joined(parts).scores(table.scale), "seconds": seconds}


def fit(table: Table, seed: int, **options: Any) -> SequenceInferrer:
    """Fit ``SequenceInferrer`` with default settings."""
    layout = WindowOptions(length=table.length, stride=table.length // 4)
    model = SequenceInferrer(layout, random_state=seed, device="cpu", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # On windows without values, which are left out.
        return model.fit(table.values[: table.train])


def infer(model: SequenceInferrer, table: Table, way: str) -> Inferred:
    """Predictions of the rows that nothing was fitted to."""
    parts = []
    for first, window in table.windows(table.train, len(table.values), table.length // 4, way):
        asked = table.values[first : first + table.length].copy()
        asked[~window.shown, -1] = np.nan
        found = model.infer_table(asked, quantiles=(0.05, 0.95))
        last = (found["member"] == model.names_[-1]).to_numpy()  # type: ignore[index]
        rows = found["x"].to_numpy(dtype=np.int64)
        truth = np.full(len(found), np.nan)
        truth[last] = window.y[rows[last]]
        kept = last & np.isfinite(truth)
        density = model.log_density(asked, np.nan_to_num(truth))
        ends = (found[f"quantile_{level}"].to_numpy()[kept] for level in (0.05, 0.95))
        parts.append(Inferred(truth[kept], found["mean"].to_numpy()[kept], density[kept], *ends))
    return joined(parts)


def joined(parts: Sequence[Inferred]) -> Inferred:
    """Predictions of several windows."""
    return Inferred(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def measure_all(tables: Sequence[Table], options: argparse.Namespace) -> None:
    """Measure what the CSV file lacks, and add it."""
    path = options.out.with_suffix(".csv")
    found = rows(path)
    done = set(zip(found["table"], found["method"], found["seed"], strict=True))
    for table in tables:
        if (table.name, "marginal normal", 0) not in done:
            for way in WAYS:
                for name, scores in measure_baselines(table, way):
                    append(path, {"table": table.name, "method": name, "seed": 0, "way": way, **scores})
        for seed in range(options.seeds):
            if (table.name, OURS, seed) in done:
                continue
            start = time.process_time()
            model = fit(table, seed)
            seconds = time.process_time() - start
            for way in WAYS:
                scores = infer(model, table, way).scores(table.scale)
                line = {"table": table.name, "method": OURS, "seed": seed, "way": way, **scores, "seconds": seconds}
                append(path, line)
                sys.stderr.write(f"{line}\n")


def rows(path: Path) -> pd.DataFrame:
    """Measurements that are done."""
    if not path.is_file():
        return pd.DataFrame(columns=["table", "method", "seed", "way"])
    return pd.read_csv(path)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sequence_inferrer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("tables", nargs="*", default=list(GENERATED), metavar="TABLE", help="(default: rooms curves)")
    parser.add_argument("--rows", type=int, default=1500, help="leading rows of each table (default: 1500)")
    parser.add_argument("--test", type=float, default=1 / 3, help="share of these that is scored (default: a third)")
    parser.add_argument("--length", type=int, default=48, help="rows of a window (default: 48)")
    parser.add_argument("--seeds", type=int, default=1, help="networks of each table (default: 1)")
    add_out(parser, "sequence_inferrer.md", [".csv"])
    options = parser.parse_args(argv)
    check_least(parser, options, rows=2, length=8, seeds=1)
    if not 0 < options.test < 1:
        parser.error(f"test must be above 0 and below 1, got {options.test:g}")
    try:
        options.read = [read_table(named, options) for named in options.tables]
    except ValueError as ex:
        parser.error(str(ex))
    return options


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every method on every table; write the report."""
    options = arguments(argv)
    torch.set_num_threads(1)
    measure_all(options.read, options)
    found = rows(options.out.with_suffix(".csv"))
    text = report(found[found["table"].isin([table.name for table in options.read])], options)
    publish(text, options.out)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
