"""Regressor by a Non-Parametric Transformer that is trained on the table itself."""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Tags, check_array
from torch.distributions import MixtureSameFamily

from tabattn.contract.columns import Floats, Standard
from tabattn.contract.fitting import atomic
from tabattn.nn.densities import mixture, parts
from tabattn.reconstruction.estimator.cells import in_units, numeric
from tabattn.reconstruction.estimator.predictor import NPTPredictor
from tabattn.storage import table_headers

HALVINGS = 60
"""Halvings of an interval in the search for a quantile."""


class NPTRegressor(RegressorMixin, NPTPredictor):  # type: ignore[misc]
    """Regressor that trains a Non-Parametric Transformer on its table (a scikit-learn estimator).

    Labels are numbers, of one column or of several. Beside the mean there is a predictive density, a mixture of
    Gaussians. Arguments and other attributes are those of ``NPTPredictor``.

    Attributes:
        outputs_: Number of columns of the labels; None = they were one-dimensional.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on labelled rows.

        Args:
            X: The rows: a DataFrame or anything two-dimensional, ``(rows, columns)``.
            y: Their labels, ``(rows,)`` or ``(rows, labels)``.

        Raises:
            ValueError: The table, the labels or an argument is invalid.
            DivergenceError: The training diverged.
        """
        with atomic(self):
            table = self._begin(X, y)
            _check_no_dates(y)
            numbers = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=self)
            if numbers.ndim not in (1, 2):
                raise ValueError(f"y must be (rows,) or (rows, labels), got the shape {numbers.shape}")
            if len(numbers) != len(table):
                raise ValueError(
                    f"Found input variables with inconsistent numbers of samples: {[len(table), len(numbers)]}"
                )
            self.outputs_ = None if numbers.ndim == 1 else numbers.shape[1]
            truth = numbers.reshape(len(numbers), -1)
            standard = Standard.of(truth)
            labels = tuple(
                numeric(f"y{place}", truth[:, place], float(mean), float(size), target=True)
                for place, (mean, size) in enumerate(zip(*standard, strict=True))
            )
            return self._train(self._encode(table), labels, standard(truth), None)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predicted mean of each row.

        Args:
            X: Rows with the columns of ``fit``.
            return_std: Whether to return the standard deviations of the predictive densities too.

        Returns:
            The means, ``(rows,)`` or ``(rows, labels)``; with ``return_std`` a pair.
        """
        found = self._predict(X)
        count = self._labels()
        mean, scale = self._units()
        means = self._shaped(in_units(found.mean[0, :, -count:].double().numpy(), mean, scale))
        if not return_std:
            return means
        density = self._last(found.density)
        return means, self._shaped(in_units(density.stddev.double().numpy(), 0.0, scale))

    def predict_quantiles(self, X: Any, quantiles: Sequence[float] = (0.05, 0.5, 0.95)) -> Floats:
        """Quantiles of the predictive densities.

        Args:
            X: Rows with the columns of ``fit``.
            quantiles: Probabilities, above 0 and below 1.

        Returns:
            ``(rows, quantiles)`` or ``(rows, labels, quantiles)``.

        Raises:
            ValueError: A probability is out of bounds, or there is none.
        """
        levels: Any = quantiles
        if not isinstance(levels, Iterable) or not (listed := list(levels)):
            raise ValueError(f"quantiles must be a list of at least 1 probability, got {quantiles!r}")
        wrong = [level for level in listed if not (isinstance(level, Real) and 0 < float(level) < 1)]
        if wrong:
            raise ValueError(f"quantiles must be above 0 and below 1, got {wrong[0]!r}")
        density = self._last(self._predict(X).density)
        mean, scale = self._units()
        found = [in_units(_quantile(density, float(level)).numpy(), mean, scale) for level in listed]
        return np.stack([self._shaped(each) for each in found], axis=-1)

    def log_density(self, X: Any, y: Any) -> Floats:
        """Logarithm of the predictive density at true labels, in nats, of the shape of ``y``.

        Args:
            X: Rows with the columns of ``fit``.
            y: Their labels, of the shape of those of ``fit``.

        Raises:
            ValueError: The labels are of another number or shape, or not finite numbers.
        """
        density = self._last(self._predict(X).density)
        mean, scale = self._units()
        truth = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        shape = (len(density.mean),) if self.outputs_ is None else tuple(density.mean.shape)
        if truth.shape != shape:
            raise ValueError(f"y must be of the shape {shape}, got {truth.shape}")
        truth = truth.reshape(shape[0], -1)
        scores = density.log_prob(torch.from_numpy((truth / 2 - mean / 2) / (scale / 2))).double().numpy() - np.log(
            scale
        )
        return self._shaped(scores)

    def _labels(self) -> int:
        return 1 if self.outputs_ is None else self.outputs_

    def _units(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the labels."""
        assert self.members_ is not None
        columns = self.members_.columns[-self._labels() :]
        return np.asarray([column.mean for column in columns]), np.asarray([column.std for column in columns])

    def _last(self, density: MixtureSameFamily) -> MixtureSameFamily:
        """Standardised densities of the labels, the last numeric columns: batch shape ``(rows, labels)``, double."""
        return mixture(*(part[0, :, -self._labels() :].double() for part in parts(density)))

    def _shaped(self, values: NDArray[np.float64]) -> Floats:
        """Values of the labels in the shape of those of ``fit``."""
        return np.asarray(values[:, 0] if self.outputs_ is None else values)

    def _facts(self) -> dict[str, Any]:
        return {"outputs": self.outputs_}

    def _restore(self, header: dict[str, Any]) -> None:
        self.outputs_ = header["outputs"]
        if self.outputs_ is not None:
            table_headers.whole("outputs", self.outputs_, 1, 2**31)
        if self.members_ is None:
            raise ValueError("it has no network")
        table_headers.check_columns(self.members_.columns, self.encoder_, [0] * self._labels())

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _check_no_dates(y: Any) -> None:
    """Refuse dates and durations, which as numbers would be counts of a unit that depends on their type.

    Raises:
        ValueError: A column of the labels holds some.
    """
    dtypes = list(y.dtypes) if hasattr(y, "columns") and hasattr(y, "dtypes") else [getattr(y, "dtype", None)]
    if (wrong := next((dtype for dtype in dtypes if getattr(dtype, "kind", "O") in "mM"), None)) is not None:
        raise ValueError(f"y must hold numbers, got {wrong}: convert them, such as to days")


def _quantile(density: MixtureSameFamily, level: float) -> torch.Tensor:
    """Quantile of mixtures, by bisection between bounds that every Gaussian of the mixture reaches."""
    _, mean, std = parts(density)
    normal = torch.distributions.Normal(mean, std).icdf(mean.new_tensor(level))
    low, high = normal.amin(-1), normal.amax(-1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = density.cdf(middle) < level
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
