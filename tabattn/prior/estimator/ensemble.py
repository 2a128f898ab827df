"""Ensemble members: the same table under other scalings and orders of columns and classes."""

from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, ndtri

from tabattn.contract.columns import Floats, Standard
from tabattn.contract.columns.scale import LARGEST
from tabattn.prior.estimator.codes import Codes, check_room, class_codes, sample_rows

STANDARD, RANKS, RAW = range(3)


class Asked(Protocol):
    """Question that a member poses to the network."""

    @property
    def member(self) -> int:
        """Index of the member."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Context rows, ``(context,)``."""

    def labels(self, y: NDArray[Any]) -> NDArray[Any]:
        """What the network reads as the labels of the context rows, ``(context,)``, given the targets of all rows."""


AnyQuestion = TypeVar("AnyQuestion", bound=Asked)


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

    def labels(self, y: NDArray[Any]) -> Codes:
        return self.codes[y[self.rows]]


class Member(NamedTuple):
    """Ensemble member: a scaling and an order of columns.

    Attributes:
        scale: Index of its scaling in ``Scales``: ``STANDARD``, ``RANKS`` or ``RAW``.
        columns: The columns that it reads, in their order.
    """

    scale: int
    columns: NDArray[np.int64]


class Ensemble(NamedTuple, Generic[AnyQuestion]):
    """All members, and all their questions, grouped by member."""

    members: list[Member]
    questions: list[AnyQuestion]


class Scales:
    """Scalings of columns fitted to context rows: standardised, rank-based normal scores, and the cells as they are.

    Standardisation keeps the differences of large numbers in float32. Normal scores are interpolated between the values
    of the context rows, and constant beyond them.

    Args:
        x: Context rows, ``(rows, features)``; NaN = missing.
    """

    def __init__(self, x: Floats) -> None:
        self.standard = Standard.of(x)
        self.scores = [_normal_scores(column[~np.isnan(column)]) for column in x.T]

    def __call__(self, x: Floats) -> list[NDArray[np.float32]]:
        """Scale rows ``(rows, features)``, once for each scaling."""
        ranks = [np.interp(column, *scores) for column, scores in zip(x.T, self.scores, strict=True)]
        raw = np.clip(x, -LARGEST, LARGEST)
        return [self.standard(x), np.stack(ranks, axis=1).astype(np.float32), raw.astype(np.float32)]


def draw(
    y: Codes, columns: NDArray[np.int64], size: int, outputs: int, max_context: int, seed: int
) -> Ensemble[Question]:
    """Draw the members of an ensemble.

    Members are standardised and ranked in turn. The class indices are rotated by one with each member, and by one more
    after each round, so that every class occurs under every index and scaling. Groups consist of classes adjacent in
    the sorted order, which often has a meaning, and each member divides the order at other positions.

    Args:
        y: Class of each row, ``(rows,)``; every class occurs.
        columns: The columns that members read.
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
    members: list[Member] = []
    questions: list[Question] = []
    for index in range(size):
        members.append(Member((STANDARD, RANKS)[index % 2], random.permutation(columns)))
        if classes <= outputs:
            turned = np.roll(order, index + index // classes)
        else:
            turned = np.roll(np.arange(classes), random.randint(classes))
        questions.extend(_question(index, y, codes, max_context, random) for codes in class_codes(turned, outputs))
    return Ensemble(members, questions)


def unchanged(y: Codes, features: int, outputs: int, max_context: int, seed: int) -> Ensemble[Question]:
    """Single member that reads the table as it is: cells, columns and classes keep their values and order.

    Args:
        y: Class of each row, ``(rows,)``; every class occurs.
        features: Number of columns.
        outputs: Most classes of one question; more classes are asked for in groups.
        max_context: Most context rows of one question.
        seed: Seed of samples of larger tables.

    Raises:
        ValueError: There are more classes than context rows of one question.
    """
    random = np.random.RandomState(seed)
    classes = int(y.max()) + 1
    check_room(classes, max_context)
    questions = [_question(0, y, codes, max_context, random) for codes in class_codes(np.arange(classes), outputs)]
    return Ensemble([Member(RAW, np.arange(features))], questions)


def averaged(members: NDArray[np.float32] | None, kernel: Floats | None, weight: float, scale: str) -> Floats:
    """Average the predictions of an ensemble.

    Args:
        members: Log-probabilities of the network's members, ``(members, rows, classes)``; None = not used.
        kernel: Log-probabilities of the kernel member, ``(rows, classes)``; None = not used.
        weight: Weight of the kernel member.
        scale: Whether to average ``logits`` or ``probabilities``.

    Returns:
        Probabilities, ``(rows, classes)``.
    """
    scores = []
    if members is not None:
        found = members.astype(np.float64)
        found = found.mean(0) if scale == "logits" else logsumexp(found, axis=0)
        scores.append((1 - weight, log_softmax(found, axis=1)))
    if kernel is not None:
        scores.append((weight, log_softmax(kernel, axis=1)))
    if scale == "logits":
        return np.exp(log_softmax(np.sum([part * score for part, score in scores], axis=0), axis=1))
    return np.sum([part * np.exp(score) for part, score in scores], axis=0)


def _question(member: int, y: Codes, codes: Codes, max_context: int, random: np.random.RandomState) -> Question:
    among = np.flatnonzero(codes[y] >= 0)
    return Question(member, among[sample_rows(y[among], max_context, random)], codes)


def _normal_scores(values: Floats) -> tuple[Floats, Floats]:
    """Distinct values, sorted, and the normal quantile at the mean rank of each."""
    if not len(values):
        return np.zeros(1), np.zeros(1)
    unique, counts = np.unique(values, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    return unique, ndtri(middle / len(values))
