"""Values of missing cells by predictions: the most likely ones, and draws."""

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
