"""Report of ``benchmarks.prior_rows``: Markdown and a picture, from the results as CSV."""

import argparse

import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.measure import provenance
from benchmarks.plots import STYLES, markdown
from callbacks.labels import drawable

PARTS = {
    "step_seconds": ("Seconds of a training step on one table", 3),
    "prediction_seconds": ("Seconds of a prediction of 200 target rows, the context read anew", 3),
    "step_mib": ("Peak memory of the training step, MiB", 1),
    "prediction_mib": ("Peak memory of the prediction, MiB", 1),
}
"""Title and decimals of each table of costs, by the column of the results."""


WIDTH = 3
"""Panels of the picture in a row."""


def report(options: argparse.Namespace) -> str:
    """Write ``prior_rows.md`` and ``prior_rows.png`` into the folder of the results, and return the text.

    Args:
        options: The command line of ``benchmarks.prior_rows``.
    """
    results = pd.read_csv(options.out / "prior_rows.csv")
    parts = [_heading(options)]
    scores = [column for column in results.columns if column.startswith("auc ")]
    for column, (title, digits) in PARTS.items():
        parts.append(f"\n## {title}\n\n{_table(results, column, digits)}")
    for column in scores:
        parts.append(f"\n## ROC AUC, {column.removeprefix('auc ')}\n\n{_table(results, column, 4)}")
    draw(results, scores, options)
    parts.append("\n![by number of context rows](prior_rows.png)\n")
    text = "".join(parts)
    (options.out / "prior_rows.md").write_text(text)
    return text


def draw(results: pd.DataFrame, scores: list[str], options: argparse.Namespace) -> None:
    """Draw costs and scores by number of context rows; classical methods are grey."""
    shown = {
        "prediction_seconds": "prediction, s",
        "step_seconds": "training step, s",
        "step_mib": "training step, MiB",
    }
    shown |= {column: f"ROC AUC, {drawable(column.removeprefix('auc '))}" for column in scores}
    height = -(-len(shown) // WIDTH)
    figure = Figure((4.4 * WIDTH, 3.6 * height + 0.6), dpi=110, layout="constrained")
    grid = figure.subplots(height, WIDTH, squeeze=False).ravel()
    for axes in grid[len(shown) :]:
        axes.remove()
    panels = grid[: len(shown)]
    networks = list(dict.fromkeys(results.loc[results["step_seconds"].notna(), "name"]))
    for axes, (column, title) in zip(panels, shown.items(), strict=True):
        for name, own in results.groupby("name", sort=False):
            grey = name not in networks
            colour, line = ("#888888", ("-", "--", ":")[len(axes.lines) % 3]) if grey else STYLES[networks.index(name)]
            if own[column].notna().any():
                axes.plot(own["rows"], own[column], color=colour, linestyle=line, marker="o", markersize=3, label=name)
        axes.set(xscale="log", xlabel="context rows", ylabel=title)
        axes.set_xticks(options.rows, [str(rows) for rows in options.rows])
        axes.set_xticks([], minor=True)
        if not column.startswith("auc "):
            axes.set_yscale("log")
        axes.grid(color="#e4e4e4", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    handles = {handle.get_label(): handle for axes in panels for handle in axes.lines}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    FigureCanvasAgg(figure)
    figure.savefig(options.out / "prior_rows.png")


def _heading(options: argparse.Namespace) -> str:
    if options.checkpoints:
        what = "Networks of checkpoints."
    else:
        what = (
            f"`PriorNetwork` (64 wide, 3 layers) with each attention between context rows, trained for {options.easy} "
            f"steps on small, easy synthetic tables and {options.steps} steps on synthetic tables of 40 to 1000 rows, "
            f"the same for all, seed {options.seed}. Target rows look at context rows by the same attention where it "
            "can answer them, else by Softmax. The scores compare networks after so short a training, with one seed, "
            "not attentions at their best. Times and memory do not depend on that."
        )
    return (
        "# In-context classifiers by number of context rows\n\n"
        f"Written by `python -m benchmarks.prior_rows` on {provenance(torch.device('cpu'))}. {what} Scores: 200 target "
        f"rows of each of {options.count} synthetic tables of 8 features and 2 classes that no network was trained on"
        f"{''.join(f', of {source}' for source in map(_name, options.tables))}; the same rows behind every context "
        "size. Seconds of classical methods include the fit.\n"
    )


def _name(source: str) -> str:
    return source.rpartition("/")[2].partition(".")[0]


def _table(results: pd.DataFrame, column: str, digits: int) -> str:
    wide = results.pivot_table(index="name", columns="rows", values=column, sort=False)
    wide.insert(0, "name", wide.index)
    return markdown(wide, digits)
