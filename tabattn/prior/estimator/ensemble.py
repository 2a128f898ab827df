"""The members of an ensemble: the same table seen through other scales, in another order of columns and classes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tabattn.contract.columns import Floats, Standard
from tabattn.prior.estimator.codes import Codes, class_codes, sample_rows


class Question(NamedTuple):
    """What a member asks the network once: some context rows, and numbers for their classes.

    Attributes:
        member: Number of the member.
        rows: Context rows, ``(context,)``.
        codes: Number of each class, ``(classes,)``; -1 = takes no part.
    """

    member: int
    rows: NDArray[np.int64]
    codes: Codes


class Member(NamedTuple):
    """One way to see a table.

    Attributes:
        scale: Which of the scales of ``Scales``.
        columns: Order of the columns, ``(features,)``.
    """

    scale: int
    columns: NDArray[np.int64]


class Ensemble(NamedTuple):
    """All members, and all their questions, those of one member in a row."""

    members: list[Member]
    questions: list[Question]


class Scales:
    """Two scales for the columns of a table, learned from context rows: plain, and normal scores of the ranks.

    Plain columns have mean 0 and variance 1, which keeps large numbers exact in float32. Between the values that the
    context rows have, normal scores are interpolated; beyond them they stay at the outermost.

    Args:
        x: Context rows, ``(rows, features)``; NaN = missing.
    """

    count = 2

    def __init__(self, x: Floats) -> None:
        self.standard = Standard.of(x)
        self.scores = [_normal_scores(column[~np.isnan(column)]) for column in x.T]

    def __call__(self, x: Floats) -> list[NDArray[np.float32]]:
        """Rows ``(rows, features)`` on every scale."""
        ranks = [np.interp(column, *scores) for column, scores in zip(x.T, self.scores, strict=True)]
        return [self.standard(x), np.stack(ranks, axis=1).astype(np.float32)]


def draw(y: Codes, features: int, size: int, outputs: int, max_context: int, seed: int) -> Ensemble:
    """Draw the members of an ensemble.

    The scale alternates from member to member. The numbers of the classes move on by one with each member, and by one
    more after each round, so that every class is met under every number and on every scale. Where the classes have to
    be grouped, a group has neighbours in their sorted order, because that often means something, and each member cuts
    it elsewhere.

    Args:
        y: Class of each row, ``(rows,)``; every class occurs.
        features: Number of columns.
        size: Number of members.
        outputs: Most classes of one question.
        max_context: Most context rows of one question.
        seed: Decides everything.
    """
    # Unlike those of a Generator, the numbers of a RandomState are the same in every version of NumPy.
    random = np.random.RandomState(seed)
    classes = int(y.max()) + 1
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
    """Different values in their order, and the normal quantile of the middle of each one's ranks."""
    if not len(values):
        return np.zeros(1), np.zeros(1)
    unique, counts = np.unique(values, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return unique, ndtri(middle / len(values))
