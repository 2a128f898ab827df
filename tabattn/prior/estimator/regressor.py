"""Scikit-learn regressor by in-context learning: ``fit`` stores the table, ``predict`` conditions on it."""

from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from tabattn.contract.columns import Floats, checked_table
from tabattn.contract.fitting import atomic
from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.estimator.arguments import REGRESSOR, Run
from tabattn.prior.estimator.distributions import Distribution, Mixture
from tabattn.prior.estimator.ensemble import Scales
from tabattn.prior.estimator.kernel_regressor import KernelRegressor
from tabattn.prior.estimator.number_ensemble import NumberQuestion, draw_numbers, pooled
from tabattn.prior.estimator.predictor import TabularPredictor
from tabattn.prior.estimator.reader import Reader
from tabattn.prior.estimator.stacking import held_out, stacked
from tabattn.prior.estimator.target_scale import LARGEST, check_targets

DECILES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
"""Probabilities of the quantiles that are predicted where none are given."""

OUTPUTS = ("mean", "median", "quantiles")


class TabularRegressor(RegressorMixin, TabularPredictor):  # type: ignore[misc]
    """In-context regressor of tables (a scikit-learn estimator): predictive distributions conditioned on its rows.

    ``fit`` encodes and stores the rows, which are the context of every prediction. The predictive distribution of a
    target is a mixture of those of a pretrained network, which is not trained further, and of Gaussian process
    regression on the same rows (the kernel member); it is in units of the targets.

    Columns may hold numbers, text, categories, dates and missing cells, in a table of any kind: pandas, Arrow, lists of
    rows, arrays, sparse matrices. Guesses about them are reported by ``tabattn.contract.errors.TableWarning``. Targets
    are finite numbers of any type, one for each row; isolated outliers among them count as the farthest of the others.

    Args:
        model: The network: None = the weights that ship with the package; or a file of weights (.safetensors), a
            checkpoint of ``PriorRegression`` (.ckpt), or a network, such as a ``PriorNetwork`` with the option
            ``targets="numbers"``, which is copied.
        n_estimators: Number of ensemble members of the network, each with its own scaling and its own order of columns.
            None = 4 beside a kernel member, 8 without.
        kernel_weight: Weight of the kernel member in the mixture, from 0 to 1 (the network is not used); or
            ``stacked``: the weight under which held-out targets of the table have the largest density (leave-one-out of
            the kernel member, five folds of the network). None = ``stacked`` with the weights of the package, 0 with
            another model. The member reads at most 2000 rows.
        temperature: Divisor of the network's logits; below 1 makes predictions more confident.
        max_context: Most context rows of a member. Of a larger table each member gets its own sample, with a warning.
        chunk_rows: Rows per forward pass; fewer take less memory and give the same predictions.
        cache: Whether to keep the KV cache of the context, so that only the first prediction computes it. Takes about
            ``8 x context rows x (layers x columns x dim + row layers x row dim)`` bytes for each member.
        device: ``auto`` (a GPU if there is one), or the name of a torch device.
        dtype: Data type of matrix products of the network: ``float32``, or on a GPU ``bfloat16`` or ``float16``.
        random_state: Seed of the orders and samples of the members, or a NumPy random state.

    Attributes:
        n_features_in_: Number of columns.
        feature_names_in_: Names of the columns of a DataFrame with text names.
        encoder_: Fitted ``TableEncoder`` of the columns.
        network_: The network; None = not loaded, with ``kernel_weight=1`` and no model.
        x_: Encoded rows, ``(rows, features)``.
        y_: Target of each row, ``(rows,)``.
        seed_: Seed drawn from ``random_state``.
    """

    saved = ("n_estimators", "temperature", "max_context", "chunk_rows", "cache", "kernel_weight")
    target_type = np.float64
    predicts = "numbers"
    packaged = "regression"
    sampling = "sample"
    defaults = REGRESSOR
    may_lack_network = True

    def __init__(
        self,
        model: ContextClassifier | str | Path | None = None,
        *,
        n_estimators: int | None = None,
        kernel_weight: float | Literal["stacked"] | None = None,
        temperature: float = 1.0,
        max_context: int = 2000,
        chunk_rows: int = 512,
        cache: bool = True,
        device: str | torch.device = "auto",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.model = model
        self.n_estimators = n_estimators
        self.kernel_weight = kernel_weight
        self.temperature = temperature
        self.max_context = max_context
        self.chunk_rows = chunk_rows
        self.cache = cache
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Store a table with targets as the context of predictions; what they need of it is computed at the first one.

        Args:
            X: Its rows: a DataFrame or anything two-dimensional, ``(rows, columns)``.
            y: Their targets, ``(rows,)``.

        Raises:
            ValueError: The table, the targets, the model or an argument is invalid.
            FileNotFoundError: There are no weights.
        """
        with atomic(self):
            self.checked_run()
            table = checked_table(self, X, reset=True, y=y)
            self.y_ = check_targets(y)
            self._store(table)
            return self._prepare()

    def predict(
        self,
        X: Any,
        output_type: Literal["mean", "median", "quantiles"] = "mean",
        quantiles: Sequence[float] | None = None,
    ) -> Floats:
        """Mean, median or quantiles of the predictive distribution of each row.

        Args:
            X: Rows with the columns of ``fit``.
            output_type: ``mean``, ``median`` or ``quantiles``.
            quantiles: Probabilities of the quantiles, above 0 and below 1; None = 0.1, 0.2, ..., 0.9.

        Returns:
            ``(rows,)``; quantiles as one array ``(rows, quantiles)``, in the order in which they are given.

        Raises:
            ValueError: The table or an argument is invalid.
        """
        if output_type not in OUTPUTS:
            raise ValueError(f"output_type must be one of {', '.join(OUTPUTS)}, got {output_type!r}")
        if quantiles is not None and output_type != "quantiles":
            raise ValueError(f"quantiles must be None where output_type is {output_type!r}, got {quantiles!r}")
        levels = _checked_quantiles(DECILES if quantiles is None else quantiles)
        found = self.distribution(X)
        if output_type == "mean":
            return found.mean()
        return found.quantile(levels) if output_type == "quantiles" else found.quantile(np.array([0.5]))[:, 0]

    def log_density(self, X: Any, y: Any) -> Floats:
        """Logarithm of the predictive density at true targets, in nats, ``(rows,)``.

        Args:
            X: Rows with the columns of ``fit``.
            y: Their targets, ``(rows,)``.

        Raises:
            ValueError: The table or the targets are invalid.
        """
        found, truth = self.distribution(X), check_targets(y)
        check_consistent_length(found.mean(), truth)
        return found.log_density(truth)

    def distribution(self, X: Any) -> Distribution:
        """Predictive distributions of rows, in units of the targets.

        Args:
            X: Rows with the columns of ``fit``.

        Returns:
            An object with the methods ``cdf``, ``log_density``, ``quantile`` and ``mean``.
        """
        check_is_fitted(self)
        run = self.checked_run()
        x = self._encoded(X)
        weighted: list[tuple[Mixture, float]] = []
        weight = self._stacked_weight(run) if run.stacked else run.kernel_weight
        if weight < 1:
            weighted.append((self._of_network(x, run), 1 - weight))
        if weight > 0:
            weighted.append((self._kernel.distribution(x), weight))
        return Mixture.of(weighted)

    def described_targets(self) -> dict[str, Any]:
        return {"targets": "numbers"}

    def restore_targets(self, header: dict[str, Any]) -> None:
        if header["targets"] != "numbers":
            raise ValueError(f"targets must be numbers, got {str(header['targets'])[:40]!r}")
        if not (np.abs(self.y_) <= LARGEST).all():
            raise ValueError(f"the rows' targets are not all finite and at most {LARGEST:g}")

    def _of_network(self, x: Floats, run: Run) -> Mixture:
        if self._reader is None:
            raise ValueError(f"kernel_weight must be 1 without a network, got {self.kernel_weight}: fit with a model")
        return pooled(self._reader.logits(x, run), self._reader.ensemble.questions)

    def _stacked_weight(self, run: Run) -> float:
        """Weight of the kernel member with the largest density of held-out targets; 0.5 for a single row."""
        if self.network_ is None:
            raise ValueError(f"kernel_weight must be 1 without a network, got {self.kernel_weight!r}: fit with a model")
        settings, rows = (run.temperature, run.members), self._kernel.rows
        if len(rows) < 2:
            return 0.5
        if settings not in self._weights:
            of_network = held_out(self.network_, self.x_[rows], self.y_[rows], run, self.seed_)
            scores = np.stack([self._kernel.solution.left_out, of_network], axis=1)
            self._weights[settings] = float(stacked(scores)[0])
        return self._weights[settings]

    def _prepare(self) -> Self:
        """Draw the ensemble members."""
        self._weights: dict[tuple[float, int], float] = {}
        self._reader: Reader[NumberQuestion] | None = None
        width, scales = self.x_.shape[1], Scales(self.x_)
        if self.network_ is not None:
            members = self.checked_run().members
            ensemble = draw_numbers(self.y_, width, members, self.max_context, self.seed_)
            self._reader = Reader(self.network_, self.x_, self.y_, ensemble)
            scales = self._reader.scales
        self._kernel = KernelRegressor(self.x_, self.y_, self._categorical(), scales, self.max_context, self.seed_)
        return self

    def _load(self) -> ContextClassifier | None:
        return None if self.model is None and self.checked_run().kernel_weight == 1 else super()._load()


def _checked_quantiles(quantiles: Any) -> Floats:
    """Check probabilities of quantiles; returns them as an array."""
    if isinstance(quantiles, str) or not isinstance(quantiles, Iterable) or not (listed := list(quantiles)):
        raise ValueError(f"quantiles must be a list of at least 1 probability, got {quantiles!r}")
    for level in listed:
        if type(level) is bool or not isinstance(level, Real) or not 0 < float(level) < 1:
            raise ValueError(f"quantiles must be above 0 and below 1, got {level!r}")
    return np.array(listed, dtype=np.float64)
