"""Report of ``benchmarks.sequence_inferrer``: a table of scores for each way of inference."""

import argparse
import inspect
from pathlib import Path

import pandas as pd
import torch

from benchmarks.measure import provenance
from tabattn import SequenceInferrer

OURS = "SequenceInferrer"
COVERED = "coverage90"
WORDS = {"forecast": "the first quarter of its values", "interp": "a quarter of its values, drawn at random"}


def report(found: pd.DataFrame, options: argparse.Namespace) -> str:
    """Report in Markdown."""
    steps = inspect.signature(SequenceInferrer).parameters["max_steps"].default
    took = found[found["method"] == OURS]["seconds"]
    text = (
        f"The first {options.rows} rows of each table, of which the last {options.test:.0%} are scored, in windows of "
        f"{options.length} rows; the last column is inferred from the others and a quarter of its own values. In each "
        "cell: log-likelihood of a value in nats, root mean squared error, and share of the values in the interval of "
        "90 %, in standard deviations of the rows before. Best of each column in bold, by the first two figures. "
        f"`{OURS}`: default settings, at most {steps} steps, the mean of {options.seeds} seeds; a fit took "
        f"{took.min():.0f} to {took.max():.0f} s of processor time. Interpolation and ridge regressions predict by a "
        "normal density whose standard deviation is their error in training at this distance from the context. The "
        "ridge regressions read the other columns up to 3 rows before and after, and are fitted to all rows before "
        "those scored. The Gaussian process knows the column alone, with hyperparameters of windows before."
    )
    named = [Path(table).name if ":" in table else table for table in options.tables]
    command = " ".join(
        ["python -m benchmarks.sequence_inferrer", *(f'"{name}"' if " " in name else name for name in named)]
    )
    command += f" --seeds {options.seeds}" if options.seeds > 1 else ""
    parts = [
        "# SequenceInferrer beside simple methods",
        "",
        f"`{command}`",
        "",
        f"{provenance(torch.device('cpu'))}.",
        "",
        text,
    ]
    for way, words in WORDS.items():
        parts += ["", f"## Context: {words}", "", *_table(found[found["way"] == way])]
    return "\n".join([*parts, ""])


def _table(found: pd.DataFrame) -> list[str]:
    means = found.groupby(["method", "table"], sort=False)[["ll", "rmse", COVERED]].mean()
    tables = list(dict.fromkeys(found["table"]))
    lines = [f"| {' | '.join(['method', *tables])} |", "| --- |" + " ---: |" * len(tables)]
    best = {table: means.xs(table, level="table") for table in tables}
    for method in dict.fromkeys(found["method"]):
        cells = []
        for table in tables:
            ll, rmse, covered = means.loc[(method, table)]
            top, least = best[table]["ll"].max(), best[table]["rmse"].min()
            cells.append(f"{_bold(f'{ll:.2f}', ll == top)}, {_bold(f'{rmse:.3f}', rmse == least)}, {covered:.2f}")
        lines.append(f"| {' | '.join([method, *cells])} |")
    return lines


def _bold(text: str, best: bool) -> str:
    return f"**{text}**" if best else text
