"""Scaling of meta-features for a network: logarithms, z-scores of training tasks, bounds."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tabattn.metafeatures.features import BOUNDED, NAMES
from tabattn.metafeatures.summaries import Floats

BOUND = 5.0
"""Largest scaled value."""


@dataclass(frozen=True)
class MetaScaler:
    """Scales meta-features: signed ``log1p`` of counts and ratios, then z-scores of training tasks, within +-5.

    Its arrays are all that a file must hold.

    Args:
        mean: Mean of each meta-feature after the logarithm, ``(features,)``.
        std: Its standard deviation, of that shape; 1 where it does not vary.
    """

    mean: Floats
    std: Floats

    def __post_init__(self) -> None:
        if self.mean.shape != (len(NAMES),) or self.std.shape != (len(NAMES),):
            raise ValueError(f"mean and std must have the shape ({len(NAMES)},), got {self.mean.shape, self.std.shape}")

    @classmethod
    def fit(cls, values: ArrayLike, valid: ArrayLike) -> Self:
        """Fit to training tasks.

        Args:
            values: Meta-features of all ``NAMES``, ``(tasks, features)``.
            valid: Whether each is defined, of that shape. One that no task has is 0 for all tasks.

        Raises:
            ValueError: The arrays have another shape.
        """
        values, valid = _checked(values, valid)
        count = valid.sum(0).clip(min=1)
        logged = np.where(valid, _logged(values), 0)
        mean = logged.sum(0) / count
        std = np.sqrt((np.where(valid, logged - mean, 0) ** 2).sum(0) / count)
        return cls(mean, np.where(std > 1e-9 * np.maximum(np.abs(mean), 1), std, 1))

    def __call__(self, values: ArrayLike, valid: ArrayLike) -> NDArray[np.float32]:
        """Scale meta-features ``(..., features)``; 0 where one is not valid.

        Raises:
            ValueError: The arrays have another shape.
        """
        values, valid = _checked(values, valid)
        scaled = ((_logged(values) - self.mean) / self.std).clip(-BOUND, BOUND)
        return np.where(valid, scaled, 0).astype(np.float32)


def _checked(values: ArrayLike, valid: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    checked = np.asarray(values, float), np.asarray(valid, bool)
    if checked[0].shape[-1:] != (len(NAMES),) or checked[0].shape != checked[1].shape:
        shapes = checked[0].shape, checked[1].shape
        raise ValueError(f"values and valid must both have the shape (tasks, {len(NAMES)}), got {shapes}")
    return checked


def _logged(values: Floats) -> Floats:
    return np.where([name in BOUNDED for name in NAMES], values, np.sign(values) * np.log1p(np.abs(values)))
