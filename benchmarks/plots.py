"""Plots and a table of training histories: ``python -m benchmarks.plots runs/*/*/*/history.csv --out plots``.

Histories in folders that differ only in their last part, such as ``Local/version_0`` and ``Local/version_1``, are
repetitions: the plots show their mean, with a band of one standard deviation on either side. A file with another name
than ``history.csv`` is a group of its own. With ``--tables``, the plots of ROC AUC have lines at the level of classical
methods (random forest, nearest neighbours, decision tree), on the validation folds of these tables, as a training with
``--data.tables`` and the same seed has them.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from benchmarks.baselines import LEVELS
from benchmarks.reports import FOLDER, writable_folder
from callbacks.labels import drawable, without_mathematics
from tabattn.contract.errors import DataError

Histories = Mapping[str, list[pd.DataFrame]]
"""Histories of repeated runs, by the name of the group."""

OUT = FOLDER / "plots"
AUC = "ROC AUC"
"""Column of a history with the mean ROC AUC of the validation."""

POINTS = 60
"""Points of a curve; a noisy curve is averaged within this many parts of the run."""

STYLES = [
    (colour, line)
    for line in ("solid", "dashed")
    for colour in ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
]
"""Line styles: colours for colour-blind readers (Okabe and Ito 2008), solid and then dashed."""


class Kind(NamedTuple):
    """Kind of plot: columns on the x and y axes, titles of the axes, and whether to smooth the values."""

    x: str
    y: str
    across: str
    up: str
    noisy: bool


KINDS = {
    "loss_step": Kind("step", "train loss", "training step", "train loss", True),
    "loss_time": Kind("cumulative time", "train loss", "training time, s", "train loss", True),
    "auc_step": Kind("step", AUC, "training step", "validation ROC AUC", False),
    "auc_time": Kind("cumulative time", AUC, "training time, s", "validation ROC AUC", False),
}
"""Kinds of plots by file name."""


def read(paths: Sequence[Path]) -> dict[str, list[pd.DataFrame]]:
    """Read histories, and group repeated runs.

    Raises:
        ValueError: A file is not the history of a training.
    """
    groups: dict[Path, list[pd.DataFrame]] = {}
    for path in paths:
        thing = path.absolute().parents[1] if path.name == "history.csv" else path.absolute().with_suffix("")
        groups.setdefault(thing, []).append(_read(path))
    names = [thing.name for thing in groups]
    return {
        thing.name if names.count(thing.name) == 1 else f"{thing.parent.name}/{thing.name}": frames
        for thing, frames in groups.items()
    }


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as ex:
        raise ValueError(f"{path} cannot be read as a history: {ex}") from ex
    if missing := [name for name in ("step", "cumulative time", "step time", "train loss") if name not in frame]:
        raise ValueError(f"{path} is no history of a training: it has no column {missing[0]!r}")
    return frame


def _with_steps(histories: Histories) -> dict[str, list[pd.DataFrame]]:
    """Histories without those of runs that ended before their first step, which are told."""
    kept = {}
    for name, frames in histories.items():
        filled = [frame for frame in frames if len(frame)]
        if len(filled) < len(frames):
            sys.stderr.write(
                f"{name}: {len(frames) - len(filled)} of {len(frames)} histories without a step left out\n"
            )
        if filled:
            kept[name] = filled
    if not kept:
        raise ValueError("no history has a step")
    return kept


def curve(frames: Sequence[pd.DataFrame], kind: Kind) -> tuple[NDArray[np.float64], ...]:
    """Mean and standard deviation over runs, on the range that all runs cover; the latter is NaN for one run.

    Returns:
        Positions on the x axis, means and standard deviations, each ``(points,)``; empty if a run has no values.
    """
    runs = [frame[[kind.x, kind.y]].dropna() for frame in frames if kind.y in frame]
    if len(runs) < len(frames) or not all(map(len, runs)):
        return np.empty(0), np.empty(0), np.empty(0)
    start, end = max(run[kind.x].iloc[0] for run in runs), min(run[kind.x].iloc[-1] for run in runs)
    grid = np.linspace(start, end, POINTS)
    values = np.stack([np.interp(grid, run[kind.x], _smooth(run[kind.y], kind.noisy)) for run in runs])
    return grid, values.mean(0), values.std(0, ddof=1) if len(runs) > 1 else np.full(POINTS, np.nan)


def _smooth(values: pd.Series, noisy: bool) -> pd.Series:
    width = max(1, len(values) // POINTS) if noisy else 1
    return values.rolling(2 * width - 1, center=True, min_periods=1).mean()


def plot_curves(histories: Histories, kind: Kind, path: Path, levels: Mapping[str, float] | None = None) -> list[str]:
    """Plot a curve for each group, and reference levels as dotted lines; return the groups without values."""
    figure, axes = _sheet(kind.across, kind.up)
    without = []
    for style, (name, frames) in zip(_styles(len(histories)), histories.items(), strict=True):
        x, means, stds = curve(frames, kind)
        if not len(x):
            without.append(name)
            continue
        axes.plot(x, means, label=drawable(name), **style)
        axes.fill_between(x, means - stds, means + stds, color=style["color"], alpha=0.09, linewidth=0)
    for (name, level), line in zip((levels or {}).items(), ("dotted", "dashdot", (0, (6, 2))), strict=False):
        axes.axhline(level, color="#555555", linestyle=line, linewidth=1.2, label=drawable(name))
    axes.set_xlim(left=0)
    if len(without) < len(histories):
        _save(figure, axes, path)
    return without


def plot_inference(times: pd.DataFrame, path: Path) -> None:
    """Plot the inference time of a table by its number of rows.

    Args:
        times: One row for each attention and number of rows: attention, rows, milliseconds.
        path: File to write.
    """
    figure, axes = _sheet("rows of a table", "inference time, ms for a table")
    rows = sorted(times["rows"].unique())
    names = list(dict.fromkeys(times["attention"]))
    for style, name in zip(_styles(len(names)), names, strict=True):
        own = times[times["attention"] == name].sort_values("rows")
        axes.plot(own["rows"], own["milliseconds"], marker="o", markersize=4, label=drawable(name), **style)
    axes.set_xscale("log")
    axes.set_xticks(rows, [str(row) for row in rows])
    axes.set_xticks([], minor=True)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    _save(figure, axes, path)


def summary(histories: Histories) -> pd.DataFrame:
    """Time and memory of each group, means over its runs; memory is NaN if a history has none."""
    lines = []
    for name, frames in histories.items():
        figures = {
            "runs": len(frames),
            "steps": np.mean([frame["step"].iloc[-1] + 1 for frame in frames]),
            "training time, s": np.mean([frame["cumulative time"].iloc[-1] for frame in frames]),
            "mean step, ms": 1e3 * np.mean([frame["step time"].mean() for frame in frames]),
            "median step, ms": 1e3 * np.mean([frame["step time"].median() for frame in frames]),
        }
        for column in ("current mem MB", "peak mem MB"):
            held = [frame[column].mean() for frame in frames if column in frame]
            figures[f"mean {column.removesuffix(' mem MB')} memory, MB"] = np.mean(held) if held else np.nan
        lines.append({"name": name, **figures})
    return pd.DataFrame(lines)


def markdown(table: pd.DataFrame, digits: int = 1) -> str:
    """Table in Markdown, numbers with ``digits`` decimals; NaN is an empty cell."""
    head = [str(name) for name in table.columns]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for _, line in table.iterrows():
        rows.append([_cell(value, digits) for value in line])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(value: object, digits: int) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.{0 if value.is_integer() and value >= 10 else digits}f}"
    return str(value)


def _styles(count: int) -> list[dict[str, Any]]:
    """Line styles; the first line is wide, so that it shows behind one that covers it."""
    styles = (STYLES[index % len(STYLES)] for index in range(count))
    return [
        {"color": colour, "linestyle": line, "linewidth": 1.4 if index else 2.8}
        for index, (colour, line) in enumerate(styles)
    ]


def _sheet(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure((7.2, 4.0), dpi=140, layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    without_mathematics(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path))  # type: ignore[no-untyped-call]


def levels(tables: Sequence[str], seed: int) -> dict[str, float]:
    """Mean ROC AUC of classical methods on the validation folds of real tables, by name."""
    from benchmarks.protocols import fitted, mean_auc
    from datamodules.prior.options import DEFAULT_FOLDS
    from datamodules.tables.real import Folds, load_tables

    real = load_tables(tuple(tables), DEFAULT_FOLDS.max_rows, seed)
    folds, classes = Folds.of(real, DEFAULT_FOLDS.folds, seed).val, max(len(table.classes) for table in real)
    return {name: mean_auc(fitted(make, classes, seed), folds, classes) for name, make in LEVELS.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the histories; write the plots and ``summary.md``, and print the summary."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plots",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("histories", type=Path, nargs="+", metavar="history.csv")
    parser.add_argument("--out", type=writable_folder, default=OUT, help=f"folder to write to (default: {OUT})")
    parser.add_argument("--tables", nargs="+", default=[], help="real tables of the validation, for lines of baselines")
    parser.add_argument("--seed", type=int, default=0, help="that of the trainings, for the folds (default: 0)")
    options = parser.parse_args(argv)
    try:
        histories = _with_steps(read(options.histories))
        lines = levels(options.tables, options.seed) if options.tables else {}
    except (ValueError, DataError) as ex:
        parser.error(str(ex))
    for name, kind in KINDS.items():
        if without := plot_curves(histories, kind, options.out / f"{name}.png", lines if kind.y == AUC else {}):
            sys.stderr.write(f"{name}.png is without {', '.join(without)}: no values of {kind.y!r} in every run\n")
    text = markdown(summary(histories))
    text += "".join(f"\nROC AUC of {name}: {level:.4f}\n" for name, level in lines.items())
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "summary.md").write_text(text)
    sys.stdout.write(text)
    sys.stderr.write(f"written to {options.out}\n")


if __name__ == "__main__":
    main()
