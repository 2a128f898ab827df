"""Report of ``benchmarks.regression`` in Markdown."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

OURS = "TabularRegressor"


def report(scores: pd.DataFrame, origin: str, weights: str, options: argparse.Namespace) -> str:
    """Report with a summary and every table.

    Args:
        scores: One row for each table and method: table, rows, features, method, rmse, r2, nll, crps, coverage,
            seconds.
        origin: Machine and commit.
        weights: Name of the network's weights.
        options: The command line.
    """
    protocol = (
        f"At most {options.max_rows} rows by random sample, {options.folds} folds, seed {options.seed}. Weights: "
        f"{weights}. Root mean squared errors (RMSE) and CRPS are in units of the target, negative log-likelihoods in "
        "nats; *coverage* is that of the 90 % interval. CPU seconds are for fit and predicted distributions of all "
        "folds. Methods without distributions have normal ones: ridge regression and boosting with the deviation of "
        "residuals in a five-fold cross-validation of the training rows, which their time includes, the random forest "
        "with that of its out-of-bag residuals."
    )
    methods = list(dict.fromkeys(scores["method"]))
    names = " ".join(Path(word).name for word in options.tables)
    return (
        f"# {OURS} and classical methods\n\nWritten by `python -m benchmarks.regression {names}` on {origin}.\n\n"
        f"{protocol}\n\n## Summary of {scores['table'].nunique()} tables\n\n"
        + _summary(scores, methods)
        + "".join(_each(part) for _, part in scores.groupby("table", sort=False))
    )


def _summary(scores: pd.DataFrame, methods: list[str]) -> str:
    ranks = {name: scores.pivot(index="table", columns="method", values=name).rank(axis=1) for name in ("rmse", "crps")}
    rows = [["method", "mean R2", "mean rank of RMSE", "mean rank of CRPS", "mean coverage", "CPU seconds in all"]]
    for name in methods:
        part = scores[scores["method"] == name]
        mean = [f"{ranks[score][name].mean():.2f}" for score in ("rmse", "crps")]
        rows.append([name, f"{part.r2.mean():.4f}", *mean, f"{part.coverage.mean():.3f}", f"{part.seconds.sum():.1f}"])
    return _table(rows)


def _each(part: pd.DataFrame) -> str:
    head = f"\n## {part.table.iloc[0]}: {part.rows.iloc[0]} rows, {part.features.iloc[0]} features\n\n"
    rows = [["method", "RMSE", "R2", "negative log-likelihood", "CRPS", "coverage", "CPU seconds"]]
    best = {name: part[name].min() for name in ("rmse", "nll", "crps")} | {"r2": part["r2"].max()}
    for line in part.to_dict("records"):
        shown = {name: f"{line[name]:.4g}" if name in ("rmse", "crps") else f"{line[name]:.3f}" for name in best}
        figures = [
            f"**{shown[name]}**" if line[name] == best[name] else shown[name] for name in ("rmse", "r2", "nll", "crps")
        ]
        rows.append([str(line["method"]), *figures, f"{line['coverage']:.3f}", f"{line['seconds']:.1f}"])
    return head + _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, marks, *body))
