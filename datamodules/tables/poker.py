"""Poker hands: a generated table whose label is a rule of its cells."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tabattn.contract.checks import check_least

SUITS = ("hearts", "spades", "diamonds", "clubs")
RANKS = ("ace", *map(str, range(2, 11)), "jack", "queen", "king")
CARDS = 5
CLASSES = (
    "nothing",
    "one pair",
    "two pairs",
    "three of a kind",
    "straight",
    "flush",
    "full house",
    "four of a kind",
    "straight flush",
    "royal flush",
)
"""Classes of hands, in the order of the table *Poker Hand* of the UCI repository."""

CHUNK = 65536
"""Hands that are drawn at once, so that memory does not depend on their number."""


def poker_classes(suits: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of each hand, an index into ``CLASSES``; an ace is below 2 or above the king in a straight.

    Args:
        suits: Indices into ``SUITS``, ``(hands, 5)``.
        ranks: Indices into ``RANKS``, ``(hands, 5)``.
    """
    ranks = np.sort(ranks, axis=1)
    steps = np.diff(ranks, axis=1)
    same = steps == 0
    # Neighbours of equal rank plus neighbouring pairs of them: 1 for a pair, 2 for two, 3 for three of a kind, 4 for a
    # full house, 5 for four of a kind.
    classes = np.asarray([0, 1, 2, 3, 6, 7])[same.sum(axis=1) + (same[:, 1:] & same[:, :-1]).sum(axis=1)]
    high = (ranks == [0, 9, 10, 11, 12]).all(axis=1)
    straight = (steps == 1).all(axis=1) | high
    flush = (suits == suits[:, :1]).all(axis=1)
    classes[straight] = 4
    classes[flush] = 5
    classes[straight & flush] = 8
    classes[high & flush] = 9
    return classes


def poker_hands(hands: int, seed: int = 0) -> pd.DataFrame:
    """Draw hands of five cards of a deck without replacement, independently of one another, with their classes.

    The columns are ``S1``, ``R1`` ... ``S5``, ``R5`` and ``hand``, all categorical. The first hands are the same
    whatever their number.

    Args:
        hands: Number of hands.
        seed: Seed of the draws.
    """
    check_least(hands=(hands, 1), seed=(seed, 0))
    source = np.random.default_rng(seed)
    deck = len(SUITS) * len(RANKS)
    parts = []
    for start in range(0, hands, CHUNK):
        shuffled = source.random((CHUNK, deck)).argsort(axis=1)
        parts.append(shuffled[: hands - start, :CARDS])
    suits, ranks = np.divmod(np.concatenate(parts), len(RANKS))
    columns: dict[str, pd.Categorical] = {}
    for card in range(CARDS):
        columns[f"S{card + 1}"] = pd.Categorical.from_codes(suits[:, card], categories=SUITS)
        columns[f"R{card + 1}"] = pd.Categorical.from_codes(ranks[:, card], categories=RANKS)
    columns["hand"] = pd.Categorical.from_codes(poker_classes(suits, ranks), categories=CLASSES)
    return pd.DataFrame(columns)
