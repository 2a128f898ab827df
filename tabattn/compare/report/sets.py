"""Scores on single data sets, and statistics over data sets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tabattn.compare.report.frame import Comparison
from tabattn.compare.report.lines import Group
from tabattn.compare.report.statistics import ENOUGH_SETS, Estimate, Ranking, estimate, ranking
from tabattn.contract.extras import missing

DATA_SETS = ("prior",)
"""Tasks that score single data sets; others score parts of one, such as its sequences, whose ranks say nothing."""
ROUNDS = 1000
"""Bootstrap samples of the data sets."""


@dataclass(frozen=True)
class Board:
    """Elo, win rate and mean rank of an attention over data sets, each with the ends of its 95 % bootstrap interval."""

    label: str
    elo: tuple[float, float, float]
    win_rate: tuple[float, float, float]
    rank: tuple[float, float, float]


@dataclass(frozen=True)
class Sets:
    """Scores on single data sets.

    Attributes:
        names: Data sets.
        scores: Mean over seeds by attention and data set.
        ranking: Critical difference of mean ranks; None where there are too few data sets or attentions.
        compared: Data sets on which every ranked attention has a score.
        board: Statistics by bencheval; empty where there are too few data sets or it is not installed.
        note: Why statistics are missing; empty where they are not.
    """

    names: Sequence[str]
    scores: Mapping[str, Mapping[str, Estimate]]
    ranking: Ranking | None
    compared: Sequence[str]
    board: Sequence[Board]
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "scores": {label: {name: one._asdict() for name, one in own.items()} for label, own in self.scores.items()},
            "ranking": None if self.ranking is None else self.ranking._asdict(),
            "board": [vars(row) for row in self.board],
        }


def sets_of(comparison: Comparison, group: Group) -> Sets | None:
    """Scores of a group on single data sets; None where the task logs none."""
    done = [cell for cell in group.cells if cell.result is not None]
    names = list(dict.fromkeys(name for cell in done for name in cell.sets))
    if not names:
        return None
    labels = [line.label for line in group.lines if any(cell.label == line.label and cell.sets for cell in done)]
    scores = {
        label: {
            name: estimate([cell.sets.get(name, math.nan) for cell in done if cell.label == label]) for name in names
        }
        for label in labels
    }
    compared = [name for name in names if all(math.isfinite(scores[label][name].mean) for label in labels)]
    values = {label: [comparison.sign * scores[label][name].mean for name in compared] for label in labels}
    separate = comparison.task in DATA_SETS
    ranked = ranking(values) if separate else None
    note = ""
    if separate and not ranked and len(labels) > 1:
        needed = f"{ENOUGH_SETS} data sets on which every attention has a score"
        note = f"Ranks are compared from {needed}; here are {len(compared)}."
    board: list[Board] = []
    if ranked:
        try:
            board = board_of(values)
        except ImportError as ex:
            note = f"Elo and win rates are left out: {missing(ex) or ex}"
    return Sets(names, scores, ranked, compared, board, note)


def board_of(values: Mapping[str, Sequence[float]]) -> list[Board]:
    """Elo, win rate and mean rank by bencheval, highest Elo first; the intervals resample the data sets.

    Args:
        values: Score of each attention on each data set, more = better.

    Raises:
        ImportError: bencheval is not installed.
    """
    import pandas as pd
    from bencheval.evaluator import BenchmarkEvaluator

    scores = np.array(list(values.values()), dtype=np.float64)
    # All three depend on the order on each data set alone, so any decreasing function of the score is an error.
    errors = scores.max(0) - scores
    frame = pd.DataFrame(
        {"method": label, "task": str(at), "metric_error": error}
        for label, own in zip(values, errors, strict=True)
        for at, error in enumerate(own)
    )
    judge = BenchmarkEvaluator(columns_to_agg_extra=None)
    results = judge.compute_results_per_task(frame)
    elo = judge.compute_elo(results, BOOTSTRAP_ROUNDS=ROUNDS // 5, round_decimals=None)
    wins = judge.compute_winrate(results)
    ranks = results.pivot_table(index="method", columns="task", values="rank")
    drawn = np.random.default_rng(0).integers(ranks.shape[1], size=(ROUNDS, ranks.shape[1]))
    found = []
    for label, row in elo.iterrows():
        mean, low, high = _interval(ranks.loc[label].to_numpy()[drawn].mean(1), ranks.loc[label].mean())
        # Against the others, a method of mean rank r of k wins the share (k - r) / (k - 1).
        share = [(len(values) - one) / (len(values) - 1) for one in (high, low)]
        ratings = (float(row["elo"]), float(row["elo"] - row["elo-"]), float(row["elo"] + row["elo+"]))
        found.append(Board(str(label), ratings, (float(wins[label]), *share), (mean, low, high)))  # type: ignore[arg-type]
    return found


def _interval(samples: Any, mean: float) -> tuple[float, float, float]:
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(mean), float(low), float(high)
