"""Values of missing cells by predictions: the most likely ones, probabilities of categories, and draws."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tabattn.contract.columns import Floats
from tabattn.nn.densities import parts
from tabattn.reconstruction.cell_network import Reconstruction
from tabattn.reconstruction.estimator.cells import in_units
from tabattn.reconstruction.estimator.members import Members


def most_likely(members: Members, found: Reconstruction) -> Floats:
    """Means of numbers in the data's units, and most probable categories by index, ``(rows, columns)``."""
    kinds = members.kinds
    out = np.empty((found.mean.shape[1], len(members.columns)))
    out[:, kinds.numeric] = bounded(members, found.mean[0])
    if kinds.categorical:
        out[:, kinds.categorical] = found.logits[0].argmax(-1).numpy()
    return out


def bounded(members: Members, z: Tensor) -> Floats:
    """Standardised numbers in the units of the data, within the range of ``fit``, ``(rows, numeric columns)``."""
    numeric = members.kinds.numeric
    known = members.known[:, numeric].double().numpy()
    within = np.clip(z.double().numpy(), np.nanmin(known, axis=0), np.nanmax(known, axis=0))
    scale = np.asarray([members.columns[place][2:4] for place in numeric]).reshape(-1, 2)
    return in_units(within, scale[:, 0], scale[:, 1])


def category_shares(codes: Floats, count: int, gaps: NDArray[np.bool_], predicted: Floats | None) -> Floats:
    """Probabilities of the categories of a column: predicted ones of missing cells, 1 for the category of the others.

    Args:
        codes: Category of each row by index, ``(rows,)``; NaN = unknown, which is no category.
        count: Number of categories.
        gaps: Missing cells, ``(rows,)``.
        predicted: Probabilities of these, ``(missing cells, at least count)``; None = no cell of the table is missing.
    """
    shares = (codes[:, None] == np.arange(count)).astype(np.float64)
    if predicted is not None:
        shares[gaps] = predicted[:, :count]
    return shares


def draw_cells(
    predict: Callable[[Floats], Reconstruction],
    members: Members | None,
    x: Floats,
    missing: NDArray[np.bool_],
    ranges: Floats,
    draws: np.random.RandomState,
) -> Floats:
    """Draw missing cells, column by column in random order, each given those drawn before, ``(rows, columns)``.

    Args:
        predict: Function of encoded rows to predictions of their cells.
        members: Networks; None where no cell is missing.
        x: Encoded cells, ``(rows, columns)``.
        missing: Cells to draw, of that shape.
        ranges: Least and largest number of each column, ``(2, columns)``.
        draws: Source of randomness.
    """
    x = x.copy()
    if not missing.any():
        return x
    assert members is not None
    for place in draws.permutation(np.flatnonzero(missing.any(0))):
        rows = missing[:, place]
        drawn = draw_column(members, predict(x[rows]), int(place), draws)
        x[rows, place] = np.clip(drawn, *ranges[:, place])
    return x


def draw_column(members: Members, found: Reconstruction, place: int, draws: np.random.RandomState) -> Floats:
    """Draw the cells of one column from their predictive densities or probabilities, ``(rows,)``."""
    kinds = members.kinds
    if place in kinds.categorical:
        shares = found.logits[0, :, kinds.categorical.index(place)].exp().double().numpy()
        return choose(shares, draws).astype(np.float64)
    at = kinds.numeric.index(place)
    logits, mean, std = (part[0, :, at].double() for part in parts(found.density))
    chosen = choose(logits.softmax(-1).numpy(), draws)
    rows = np.arange(len(chosen))
    values = found.mean[0].clone()
    values[:, at] = values.new_tensor(draws.normal(mean.numpy()[rows, chosen], std.numpy()[rows, chosen]))
    return np.asarray(bounded(members, values)[:, at])


def choose(shares: Floats, draws: np.random.RandomState) -> NDArray[np.int64]:
    """Draw an index from each row of probabilities."""
    edges = shares.cumsum(1)
    return (draws.random_sample((len(shares), 1)) * edges[:, -1:] >= edges).sum(1).clip(max=shares.shape[1] - 1)
