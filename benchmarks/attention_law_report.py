"""Report of ``benchmarks.attention_law``: fitted power laws, the table, and the picture."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from scipy import stats

from benchmarks.measure import provenance
from callbacks.curves import label, sheet

SIZES = {"dim": 32, "heads": 2, "hidden": 64, "layers": 2}
"""Sizes of the networks."""
OBSERVATIONS = 1024
"""Points of a batch, over all of its tasks."""
TESTS = 128
"""Tasks to score, at each length the same for all."""
BIASED = "+distances"
"""Ending of the name of a mechanism with distance bias."""
WAVES = 16
"""Wavelengths of the distance bias."""


class Law(NamedTuple):
    """Power law of the gap: ``gap = scale * length ** slope``, fitted by least squares of logarithms.

    Attributes:
        slope: The exponent.
        error: Its standard error.
        r2: Share of the variance of the logarithm that the law explains.
    """

    slope: float
    error: float
    r2: float

    @classmethod
    def fit(cls, lengths: Sequence[float], gaps: Sequence[float]) -> "Law":
        """Fit the law to gaps, all of them above 0."""
        if not (least := min(gaps)) > 0:
            raise ValueError(f"gaps must be above 0 to have a power law, got {least:g}")
        found = stats.linregress(np.log(lengths), np.log(gaps))
        return cls(float(found.slope), float(found.stderr), float(found.rvalue) ** 2)


def laws(found: pd.DataFrame) -> dict[str, Law]:
    """Power law of each mechanism over all lengths and seeds, by slope; none of a single length."""
    if found["length"].nunique() < 2:
        return {}
    made = {str(name): Law.fit(own["length"], own["gap"]) for name, own in found.groupby("mechanism", sort=False)}
    return dict(sorted(made.items(), key=lambda item: item[1].slope))


def draw(found: pd.DataFrame, path: Path) -> None:
    """Plot the gap by length on logarithmic axes: a line of means over seeds, and a band from least to largest."""
    figure, (axes,) = sheet(1, "")
    for number, (name, own) in enumerate(found.groupby("mechanism", sort=False)):
        seeds = own.groupby("length")["gap"]
        means = seeds.mean()
        axes.plot(means.index, means, color=f"C{number}", marker="o", markersize=3, linewidth=1.2, label=str(name))
        axes.fill_between(means.index, seeds.min(), seeds.max(), color=f"C{number}", alpha=0.18, linewidth=0)
    _logarithmic(axes, sorted(found["length"].unique()))
    label(axes, "points of a task, context and targets", "gap to the oracle, nats of a target")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    figure.savefig(path, bbox_inches="tight")


def _logarithmic(axes: Axes, lengths: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.xaxis.set_minor_formatter(NullFormatter())
    for part in ("major", "minor"):
        getattr(axes.yaxis, f"set_{part}_formatter")("{x:g}")
    axes.tick_params(which="both", labelsize=7)


def report(found: pd.DataFrame, options: argparse.Namespace) -> str:
    """Report in Markdown: gap and its spread over seeds by mechanism and length, and the fitted laws."""
    text = (
        f"Networks `TNPD` of {SIZES}, {options.steps} steps of MuonAdamW on batches of {OBSERVATIONS} points, "
        f"{options.seeds} seeds. Tasks of `const`: all of one sequence and the first quarter of the other are context; "
        f"each sequence has half the points. Scored on {TESTS} tasks. Gap: log-likelihood of the exact density, which "
        "knows the process of each task, minus that of the network, in nats of a target; behind ± the standard error "
        "over seeds. Slope: exponent of the gap by length, least squares of logarithms over lengths and seeds, and its "
        f"standard error; R2: explained variance of the logarithm of the gap. `{BIASED}`: `tokens.distances={WAVES}`. "
        "With mechanisms that do not serve cross-attention, such as Local, context points attend to one another by "
        "them, and targets to the context by Softmax. Milliseconds are processor time. All trainings are short: a gap "
        "holds what is not learned in so many steps beside what a mechanism cannot express, and long tasks are fewer, "
        "as all batches have the same number of points. The law is one of this budget."
    )
    command = f"python -m benchmarks.attention_law --steps {options.steps} --seeds {options.seeds}"
    for name in ("attentions", "lengths"):
        if getattr(options, name) != options.usual[name]:
            command += f" --{name} {' '.join(map(str, getattr(options, name)))}"
    head = ["# Gap to the oracle by length", "", f"`{command}`", "", f"{provenance(torch.device('cpu'))}.", "", text]
    picture = f"![gap to the oracle by length]({options.out.with_suffix('.png').name})"
    return "\n".join([*head, "", *table(found), "", picture, ""])


def table(found: pd.DataFrame) -> list[str]:
    """Table of gaps, laws and costs in Markdown, by slope."""
    lengths = sorted(found["length"].unique())
    first, last = lengths[0], lengths[-1]
    heads = ["mechanism", *map(str, lengths), "slope", "R2", f"ms of a step at {first}", f"at {last}"]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    fitted = laws(found)
    for name in fitted or dict.fromkeys(found["mechanism"]):
        by_length = found[found["mechanism"] == name].groupby("length")
        gaps, errors = by_length["gap"].mean(), by_length["gap"].sem()
        cells = [f"{gaps[length]:.3f}" + _behind(errors[length]) for length in lengths]
        law = fitted.get(name)
        cells += ["", ""] if law is None else [f"{law.slope:+.2f} ± {law.error:.2f}", f"{law.r2:.2f}"]
        costs = by_length["ms_of_a_step"].median()
        lines.append(f"| {name} | {' | '.join([*cells, f'{costs[first]:.1f}', f'{costs[last]:.1f}'])} |")
    oracle = found.groupby("length")["ll_oracle"].first()
    cells = [f"{oracle[length]:.3f}" for length in lengths] + [""] * 4
    return [*lines, f"| *log-likelihood of the oracle* | {' | '.join(cells)} |"]


def _behind(error: float) -> str:
    return "" if pd.isna(error) else f" ± {error:.3f}"
