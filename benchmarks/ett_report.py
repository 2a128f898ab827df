"""Report of ``benchmarks.ett`` in Markdown."""

from collections.abc import Mapping, Sequence

import pandas as pd

OURS = "network"
ENSEMBLE = "mean of the networks"

TEXT = """\
The first 70 % of the hours are for training, the next 10 % for validation, the last 20 % for test; columns are
standardised by mean and standard deviation of the training hours, so the prediction 0 has a squared error of about 1.
Test windows of 64 hours start every 16 hours: the context is all of one column and the first 16 values of the other,
whose 48 remaining values are the targets. The network is trained on windows of the training hours by
`configs/pairs_table.yaml`, with 8 to 32 context values; its weights are an average at the end of the training, not
selected by a score. The axis starts at the time of day of a window's first hour. The baselines need no training: the
ridge regression (penalty 1) is fitted to the 16 context hours.
"""


def report(found: pd.DataFrame, origin: str, changes: Mapping[str, Sequence[str]], further: Sequence[str]) -> str:
    """Errors of every method, and those of the networks relative to the best baseline.

    Args:
        found: One row for each pair, method and seed: pair, windows, method, mse; of the network also seed, val_mse,
            ll, crps, rmse_first, seconds.
        origin: Machine and commit.
        changes: Changes of the configuration for the trainings of a column, by its name.
        further: Further arguments of the trainings.
    """
    own = "; ".join(f"{name}: `{' '.join(words)}`" for name, words in changes.items() if words)
    words = f" Changes of the configuration, chosen on hours before the test part: {own}." if own else ""
    words += f" Further arguments: `{' '.join(further)}`." if further else ""
    return (
        "# One real series inferred from another: ETTh1\n\n"
        f"Written by `python -m benchmarks.ett` on {origin}.{words}\n\n{TEXT}\n{_table(_errors(found))}\n"
        "Mean and standard deviation over seeds; the last row of a pair is the mean of the predictions of its "
        "networks.\nLog-likelihood is in nats per target.\n\n"
        f"{_table(_details(found[found['method'] == OURS]))}"
    )


def _errors(found: pd.DataFrame) -> list[list[str]]:
    """Rows of every method on every pair, and ratios of the networks to the best baseline."""
    pairs = list(dict.fromkeys(found["pair"]))
    methods = list(dict.fromkeys(found["method"]))
    groups = found.groupby(["method", "pair"])["mse"]
    means, spread = groups.mean(), groups.std()
    rows = [["mean squared error", *(f"{pair} ({_windows(found, pair)} windows)" for pair in pairs)]]
    for method in methods:
        figures = [f"{means[method, pair]:.4f}" for pair in pairs]
        if spread[method].notna().all():
            figures = [f"{figure} ± {spread[method, pair]:.4f}" for figure, pair in zip(figures, pairs, strict=True)]
        rows.append([method, *figures])
    ours = [OURS, ENSEMBLE]
    best = {pair: min(means[method, pair] for method in methods if method not in ours) for pair in pairs}
    for name in ours:
        rows.append([f"{name} / best naive one", *(f"{means[name, pair] / best[pair]:.2f}" for pair in pairs)])
    return rows


def _details(ours: pd.DataFrame) -> list[list[str]]:
    """Rows of every network."""
    rows = [["network", "seed", "MSE", "in validation", "log-likelihood", "CRPS", "RMSE of the first hour", "seconds"]]
    for line in ours.itertuples():
        errors = [f"{line.mse:.4f}", f"{line.val_mse:.4f}"]
        figures = [f"{figure:.3f}" for figure in (line.ll, line.crps, line.rmse_first)]
        rows.append([line.pair, f"{line.seed:g}", *errors, *figures, f"{line.seconds:.0f}"])
    return rows


def _windows(found: pd.DataFrame, pair: str) -> int:
    return int(found.loc[found["pair"] == pair, "windows"].iloc[0])


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, marks, *body))
