"""Ensemble members: the same table under other scalings and orders of columns and classes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tabattn.contract.columns import Floats, Standard
from tabattn.prior.estimator.codes import Codes, check_room, class_codes, sample_rows


class Question(NamedTuple):
    """Classification problem that a member poses to the network: context rows and class codes.

    Attributes:
        member: Index of the member.
        rows: Context rows, ``(context,)``.
        codes: Output index of each class, ``(classes,)``; -1 = not part of the problem.
    """

    member: int
    rows: NDArray[np.int64]
    codes: Codes


class Member(NamedTuple):
    """Ensemble member: a scaling and an order of columns.

    Attributes:
        scale: Index of its scaling in ``Scales``.
        columns: Order of the columns, ``(features,)``.
    """

    scale: int
    columns: NDArray[np.int64]


class Ensemble(NamedTuple):
    """All members, and all their questions, grouped by member."""

    members: list[Member]
    questions: list[Question]


class Scales:
    """Scalings of columns fitted to context rows: standardised, and rank-based normal scores.

    Standardisation keeps the differences of large numbers in float32. Normal scores are interpolated between the values
    of the context rows, and constant beyond them.

    Args:
        x: Context rows, ``(rows, features)``; NaN = missing.
    """

    count = 2

    def __init__(self, x: Floats) -> None:
        self.standard = Standard.of(x)
        self.scores = [_normal_scores(column[~np.isnan(column)]) for column in x.T]

    def __call__(self, x: Floats) -> list[NDArray[np.float32]]:
        """Scale rows ``(rows, features)``, once for each scaling."""
        ranks = [np.interp(column, *scores) for column, scores in zip(x.T, self.scores, strict=True)]
        return [self.standard(x), np.stack(ranks, axis=1).astype(np.float32)]


def draw(y: Codes, features: int, size: int, outputs: int, max_context: int, seed: int) -> Ensemble:
    """Draw the members of an ensemble.

    Scalings alternate between members. The class indices are rotated by one with each member, and by one more after
    each round, so that every class occurs under every index and scaling. Groups consist of classes adjacent in the
    sorted order, which often has a meaning, and each member divides the order at other positions.

    Args:
        y: Class of each row, ``(rows,)``; every class occurs.
        features: Number of columns.
        size: Number of members.
        outputs: Most classes of one question.
        max_context: Most context rows of one question.
        seed: Seed of all random choices.

    Raises:
        ValueError: There are more classes than context rows of one question.
    """
    # A RandomState, unlike a Generator, yields the same numbers in every version of NumPy.
    random = np.random.RandomState(seed)
    classes = int(y.max()) + 1
    # Before there are codes: their number grows with the square of that of the classes.
    check_room(classes, max_context)
    order = random.permutation(classes)
    members, questions = [], []
    for index in range(size):
        members.append(Member(index % Scales.count, random.permutation(features)))
        if classes <= outputs:
            turned = np.roll(order, index + index // classes)
        else:
            turned = np.roll(np.arange(classes), random.randint(classes))
        for codes in class_codes(turned, outputs):
            among = np.flatnonzero(codes[y] >= 0)
            rows = among[sample_rows(y[among], max_context, random)]
            questions.append(Question(index, rows, codes))
    return Ensemble(members, questions)


def _normal_scores(values: Floats) -> tuple[Floats, Floats]:
    """Distinct values, sorted, and the normal quantile at the mean rank of each."""
    if not len(values):
        return np.zeros(1), np.zeros(1)
    unique, counts = np.unique(values, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return unique, ndtri(middle / len(values))
