"""Mechanisms of missingness: which cells of a complete table are hidden, at random or by values."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.columns import learn

Mechanism = Literal["MCAR", "MAR", "MNAR"]
MECHANISMS: tuple[Mechanism, ...] = ("MCAR", "MAR", "MNAR")


def hide(table: pd.DataFrame, mechanism: Mechanism, rate: float, seed: int) -> NDArray[np.bool_]:
    """Cells to hide, ``(rows, columns)``, among those that have a value.

    ``MCAR`` (missing completely at random) hides each with the probability ``rate``. ``MAR`` (at random given what is
    seen) keeps every second column, and hides a cell of the others with a probability that rises with the rank of the
    row's value in one of those that are kept, from 0 to twice the rate. ``MNAR`` (not at random) hides a cell with a
    probability that rises so with the rank of its own value. A category's rank is that of a random order of categories.

    Args:
        table: The table.
        mechanism: The mechanism.
        rate: Share of the cells that are hidden, of the columns that are not kept; at most 0.5.
        seed: Seed.

    Raises:
        ValueError: The rate is out of bounds, or there is no such mechanism.
    """
    if not 0 < rate <= 0.5:
        raise ValueError(f"rate must be above 0 and at most 0.5, got {rate}")
    draws = np.random.default_rng([seed, MECHANISMS.index(mechanism), round(100 * rate)])
    chance = np.full(table.shape, rate)
    if mechanism != "MCAR":
        ranks = np.stack([_rank(table.iloc[:, place], draws) for place in range(table.shape[1])], axis=1)
        chance = 2 * rate * ranks
        if mechanism == "MAR":
            order = draws.permutation(table.shape[1])
            kept, hidden = order[::2], order[1::2]
            chance[:, hidden] = chance[:, draws.choice(kept, len(hidden))]
            chance[:, kept] = 0.0
    return (draws.random(table.shape) < chance) & table.notna().to_numpy()


def shuffled(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table with each column in an order of its own, so that no cell says anything about another."""
    draws = np.random.default_rng(seed)
    columns = {name: table[name].iloc[draws.permutation(len(table))].reset_index(drop=True) for name in table}
    return pd.DataFrame(columns)


def _rank(column: pd.Series, draws: np.random.Generator) -> NDArray[np.float64]:
    """Rank of each cell between 0 and 1, equal values alike and 0.5 on average; 0.5 where it is missing."""
    reading, _ = learn(column)
    values = reading.apply(column)[0]
    if reading.categories is not None:
        order = np.append(draws.permutation(len(reading.categories)).astype(np.float64), np.nan)
        values = order[np.nan_to_num(values, nan=len(reading.categories)).astype(int)]
    ranks = pd.Series(values).rank()
    return np.asarray(((ranks - 0.5) / ranks.count()).fillna(0.5))
