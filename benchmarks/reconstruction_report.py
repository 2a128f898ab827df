"""Report of the comparison on folds: means, standard errors, and paired differences."""

import argparse

import pandas as pd
import torch

from benchmarks.measure import provenance

OURS = "ours"
LOWER = ("rmse", "mae", "crps", "nll")
NUMERIC = ("rmse", "mae", "crps", "nll", "coverage_50", "coverage_90")
CATEGORICAL = ("auroc", "accuracy", "nll")


def report(results: pd.DataFrame, options: argparse.Namespace) -> str:
    """Report in Markdown."""
    tables = [_table(name, part) for name, part in results.groupby("table", sort=False)]
    sources = " ".join(options.tables)
    further = "".join(f" {word}" for word in options.further)
    text = (
        f"Means over folds of {options.folds}, ± the standard error. *difference*: the first figure minus that of ours "
        "in the same folds. *seconds* a fold: training and test. Figures of numeric targets are in the target's units, "
        "log-likelihoods (nll) in nats. Baselines have their defaults, on the training rows of the fold."
    )
    head = ["# Reconstruction against other models", "", f"`python -m benchmarks.reconstruction {sources}{further}`"]
    return "\n".join([*head, "", f"{provenance(torch.device('cpu'))}.", "", text, "", *tables])


def _table(name: str, results: pd.DataFrame) -> str:
    categorical = "auroc" in results and results["auroc"].notna().any()
    scores = [score for score in (CATEGORICAL if categorical else NUMERIC) if score in results]
    first = scores[0]
    wide = results.pivot_table(index="fold", columns="method", values=first)
    means = wide.mean().sort_values(ascending=first in LOWER)
    lines = [f"| method | folds | {' | '.join(scores)} | difference | seconds |"]
    lines.append("| --- |" + " ---: |" * (len(scores) + 3))
    for method in means.index:
        part = results[results["method"] == method]
        cells = [_figure(part[score]) for score in scores]
        gap = wide[method] - wide[OURS] if OURS in wide and method != OURS else pd.Series(dtype=float)
        lines.append(
            f"| {method} | {len(part)} | {' | '.join(cells)} | {_figure(gap.dropna())} | {part['seconds'].mean():.0f} |"
        )
    return "\n".join([f"## {name}", "", *lines, ""])


def _figure(values: "pd.Series[float]") -> str:
    values = values.dropna()
    if values.empty:
        return ""
    digits = 3 if abs(values.mean()) < 10 else 2
    error = f" ± {values.sem():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{error}"
