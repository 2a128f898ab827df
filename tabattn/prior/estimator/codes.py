"""Class codes: permutations of class indices, and a tree of groups for more classes than outputs."""

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
"""Output index of each class in one question to the network, ``(classes,)``; -1 = not part of it."""


def class_codes(order: Codes, outputs: int) -> list[Codes]:
    """Assign output indices to classes, by a tree of groups if the network has too few outputs.

    While there are more classes than outputs, neighbours in the order form groups of nearly equal size: one
    classification problem (question) decides the group, and one for each group, built in the same way, decides among
    its classes. The probability of a class is the product over its questions.

    Args:
        order: Permutation of the classes, by which they are indexed and grouped, ``(classes,)``.
        outputs: Most classes of one question.

    Returns:
        Codes of each question, the first of which has all classes.

    Raises:
        ValueError: There are fewer than 2 outputs.
    """
    if outputs < 2:
        raise ValueError(f"a network must tell at least 2 classes apart, this one has {outputs} output")
    questions: list[Codes] = []
    groups = [order]
    while groups:
        group = groups.pop(0)
        parts = len(group) if len(group) <= outputs else min(-(-len(group) // outputs), outputs)
        codes = np.full(len(order), -1)
        for code, members in enumerate(np.array_split(group, parts)):
            codes[members] = code
            if len(members) > 1:
                groups.append(members)
        questions.append(codes)
    return questions


def check_room(classes: int, limit: int) -> None:
    """Raise ValueError if a context of at most ``limit`` rows has no row for each class."""
    if limit < classes:
        raise ValueError(f"max_context must be at least the number of classes ({classes}), got {limit}")


def sample_rows(y: Codes, limit: int, random: np.random.RandomState) -> NDArray[np.int64]:
    """Stratified sample of rows without replacement, with at least one of each class.

    Args:
        y: Class of each row, ``(rows,)``.
        limit: Number of rows to draw, or all if there are fewer.
        random: NumPy random generator.

    Returns:
        Indices of the rows, ascending.

    Raises:
        ValueError: There are more classes than rows to draw.
    """
    if len(y) <= limit:
        return np.arange(len(y))
    classes, inverse, counts = np.unique(y, return_inverse=True, return_counts=True)
    check_room(len(classes), limit)
    exact = counts * (limit / len(y))
    take = np.maximum(np.floor(exact).astype(np.int64), 1)
    while take.sum() != limit:
        # Correct rounding: add a row of the class furthest below its share, or remove one of the furthest above.
        if take.sum() < limit:
            take[np.argmax(np.where(take < counts, exact - take, -np.inf))] += 1
        else:
            take[np.argmax(np.where(take > 1, take - exact, -np.inf))] -= 1
    drawn = [random.permutation(np.flatnonzero(inverse == index))[:count] for index, count in enumerate(take)]
    return np.sort(np.concatenate(drawn))
