"""Poker hands: labels by the definitions of the ten classes, drawn without replacement."""

from itertools import combinations

import numpy as np
import pytest

from datamodules.tables.poker import CARDS, CHUNK, CLASSES, RANKS, SUITS, poker_classes, poker_hands
from datamodules.tables.sources import load_columns, load_frame

HANDS = {
    "nothing": ["Ah 3h 5h 7h 9s", "Qh Ks As 2d 3c", "Jh Qs Kd Ac 2h"],
    "one pair": ["Ah As 3d 5c 9h", "2h 4s Kd 9c Ks"],
    "two pairs": ["Ah As 3d 3c 9h", "2h Ks 2d 9c Kh"],
    "three of a kind": ["7h 7s 7d Ac Kh", "2h 7s Kd 7c 7h"],
    "straight": ["Ah 2s 3d 4c 5h", "Th Js Qd Kc Ah", "9h 5s 6d 8c 7h"],
    "flush": ["Ah 3h 5h 7h 9h", "2c 4c 6c 8c Kc", "Qs Ks As 2s 3s"],
    "full house": ["Ah As Ad Kc Kh", "Kh Ks Kd Ac Ah"],
    "four of a kind": ["2h 2s 2d 2c Kh", "Ah Ks Kd Kc Kh"],
    "straight flush": ["Ah 2h 3h 4h 5h", "9c Tc Jc Qc Kc"],
    "royal flush": ["Ah Kh Qh Jh Th", "Ts Js Qs Ks As"],
}


def cards(hand: str) -> tuple[list[int], list[int]]:
    """Return the suits and ranks of a hand."""
    return ["hsdc".index(card[1]) for card in hand.split()], ["A23456789TJQK".index(card[0]) for card in hand.split()]


@pytest.mark.parametrize("name", CLASSES)
def test_hands_of_each_class(name: str) -> None:
    suits, ranks = (np.array(part) for part in zip(*map(cards, HANDS[name]), strict=True))
    assert [CLASSES[place] for place in poker_classes(suits, ranks)] == [name] * len(suits)
    order = np.random.default_rng(0).permutation(CARDS)
    assert [CLASSES[place] for place in poker_classes(suits[:, order], ranks[:, order])] == [name] * len(suits)


@pytest.mark.slow
def test_every_hand_has_the_class_that_combinatorics_gives() -> None:
    suits, ranks = np.divmod(np.array(list(combinations(range(52), CARDS)), dtype=np.int8), 13)
    counts = np.bincount(poker_classes(suits, ranks)).tolist()
    assert counts == [1302540, 1098240, 123552, 54912, 10200, 5108, 3744, 624, 36, 4]


def test_hands_are_drawn_without_replacement() -> None:
    hands = poker_hands(4000)
    codes = np.stack([hands[name].cat.codes for name in hands.columns[:-1]], axis=1).astype(int)
    numbers = codes[:, ::2] * 13 + codes[:, 1::2]
    assert (np.diff(np.sort(numbers, axis=1), axis=1) > 0).all()
    counts = np.bincount(numbers.ravel(), minlength=52)
    assert abs(counts - 4000 * CARDS / 52).max() < 5 * (4000 * CARDS / 52) ** 0.5
    assert (codes[:, 1] != codes[:, 3]).mean() == pytest.approx(48 / 51, abs=0.02)
    assert (hands["hand"] == "one pair").mean() == pytest.approx(1098240 / 2598960, abs=0.03)


def test_hands_are_a_function_of_the_seed_and_not_of_their_number() -> None:
    many = poker_hands(CHUNK + 10, seed=3)
    assert len(many) == CHUNK + 10
    assert many.iloc[:50].equals(poker_hands(50, seed=3))
    assert not many.iloc[:50].equals(poker_hands(50, seed=4))


def test_hands_are_a_source() -> None:
    columns = load_columns("poker:30:7")
    assert (columns.name, columns.target) == ("poker", "hand")
    assert columns.columns.equals(poker_hands(30, 7))
    assert load_columns("poker:30::S1").target == "S1"
    assert len(load_frame("poker:30").categorical) == 10
    assert list(columns.columns["S1"].cat.categories) == list(SUITS)
    assert list(columns.columns["R5"].cat.categories) == list(RANKS)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("poker:", "poker hands are poker:<hands> or poker:<hands>:<seed>, such as poker:25010, got 'poker:'"),
        ("poker:ten", "got 'poker:ten'"),
        ("poker:10:1:2", "got 'poker:10:1:2'"),
        ("poker:0", "hands must be at least 1, got 0"),
    ],
)
def test_a_bad_number_of_hands_is_refused(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_columns(source)
