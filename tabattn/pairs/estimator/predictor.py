"""Predictions of densities of values that a table asks for: what an estimator of sequences has in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from torch.distributions import MixtureSameFamily

from tabattn.pairs.estimator.arguments import check_arguments
from tabattn.pairs.estimator.densities import Asked, check_levels, find_quantiles, predict, sample
from tabattn.pairs.estimator.observed import Floats, Observed
from tabattn.pairs.mixtures import LEVELS
from tabattn.pairs.network import PairNetwork


class DensityPredictor(BaseEstimator, ABC):  # type: ignore[misc]
    """Abstract estimator that predicts a density for each value that a table asks for.

    Attributes:
        network_: The network.
    """

    network_: PairNetwork

    @abstractmethod
    def _asked(self, X: Any, at: Any) -> tuple[list[Asked], tuple[Observed, pd.DataFrame]]:
        """Tasks with their targets in the units of the network, what is observed, and the targets."""

    def predict(self, X: Any, at: Any = None, return_std: bool = False) -> Any:
        """Predicted mean of each value that is asked for.

        Args:
            X: Observations, in the layout of ``fit``.
            at: What is asked for. None = the values that are NaN in ``X``, row by row. Of a long table, rows of task,
                member and x; of a wide one, rows of member and x, or locations at which all sequences are inferred.
            return_std: Whether to return the standard deviations of the densities too.

        Returns:
            The means, ``(targets,)``; with ``return_std`` a pair.

        Raises:
            ValueError: A sequence or a task is unknown, nothing is asked for, or nothing is observed.
        """
        density = self._density(X, at)[0]
        means = density.mean.numpy()
        return (means, density.stddev.numpy()) if return_std else means

    def predict_quantiles(self, X: Any, at: Any = None, quantiles: Sequence[float] = (0.05, 0.5, 0.95)) -> Floats:
        """Quantiles of the predicted densities, ``(targets, quantiles)``.

        Args:
            X: Observations.
            at: What is asked for, as in ``predict``.
            quantiles: Probabilities, above 0 and below 1.
        """
        levels = check_levels(quantiles)
        return find_quantiles(self._density(X, at)[0], levels)

    def sample(
        self, X: Any, at: Any = None, n: int = 1, random_state: int | np.random.RandomState | None = None
    ) -> Floats:
        """Draw trajectories: the values of a task one after another, each given those drawn before.

        Args:
            X: Observations.
            at: What is asked for, as in ``predict``.
            n: Number of trajectories.
            random_state: Seed of the draws; None = another one each time.

        Returns:
            ``(n, targets)``.
        """
        number: Any = n
        if type(number) is bool or not isinstance(number, Integral) or int(number) < 1:
            raise ValueError(f"n must be a whole number, at least 1, got {n!r}")
        device = check_arguments(self.get_params(deep=False)).device
        asked, _ = self._asked(X, at)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        return sample(self.network_, asked, int(number), seed, device)

    def infer_table(
        self,
        X: Any,
        at: Any = None,
        quantiles: Sequence[float] = LEVELS,
        samples: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> pd.DataFrame:
        """Predictions as a table with a row for each value that is asked for.

        Args:
            X: Observations.
            at: What is asked for, as in ``predict``.
            quantiles: Probabilities of the quantiles.
            samples: Number of trajectories.
            random_state: Seed of the trajectories.

        Returns:
            Columns ``task``, ``member``, ``x``, ``mean``, ``std``, ``quantile_<probability>`` and ``sample_<n>``.
        """
        levels = check_levels(quantiles)
        density, targets, known = self._density(X, at)
        columns: dict[str, Any] = {
            "task": [known.labels[number] for number in targets["task"]],
            "member": [known.names[number] for number in targets["member"]],
            "x": targets["entry"].to_numpy(),
            "mean": density.mean.numpy(),
            "std": density.stddev.numpy(),
        }
        found = find_quantiles(density, levels)
        columns |= {f"quantile_{level:g}": found[:, place] for place, level in enumerate(levels)}
        if samples:
            drawn = self.sample(X, at, samples, random_state)
            columns |= {f"sample_{number}": values for number, values in enumerate(drawn)}
        return pd.DataFrame(columns)

    def log_density(self, X: Any, truth: Any, at: Any = None) -> Floats:
        """Logarithm of the predicted density at true values, in nats, ``(targets,)``.

        Args:
            X: Observations.
            truth: True value of each target, in the order of ``predict``.
            at: What is asked for, as in ``predict``.

        Raises:
            ValueError: There is another number of true values than of targets.
        """
        density = self._density(X, at)[0]
        values = np.array(truth, dtype=np.float64)
        if values.shape != tuple(density.mean.shape):
            raise ValueError(f"truth must be of the shape {tuple(density.mean.shape)}, got {values.shape}")
        return np.asarray(density.log_prob(torch.from_numpy(values)).numpy())

    def _density(self, X: Any, at: Any) -> tuple[MixtureSameFamily, pd.DataFrame, Observed]:
        asked, (known, targets) = self._asked(X, at)
        device = check_arguments(self.get_params(deep=False)).device
        return predict(self.network_, asked, device), targets.sort_values("row"), known
