"""Scikit-learn classifier by in-context learning: ``fit`` stores the table, ``predict`` conditions on it."""

import copy
import warnings
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted

from tabattn.contract.columns import Floats, TableEncoder, check_labels, checked_table, number_labels
from tabattn.contract.fitting import atomic
from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.estimator import files
from tabattn.prior.estimator.arguments import check_arguments
from tabattn.prior.estimator.ensemble import averaged, draw, unchanged
from tabattn.prior.estimator.kernel import KernelClassifier
from tabattn.prior.estimator.reader import Reader
from tabattn.prior.weights import load_network
from tabattn.storage.finite import non_finite_weight


class TabularClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """In-context classifier of tables (a scikit-learn estimator): a pretrained network conditions on labelled rows.

    ``fit`` encodes and stores the rows, which are the context of every prediction. With the weights of the package,
    predictions mix the network, which is not trained further, with a kernel ridge classifier of the same rows (the
    kernel member); ``kernel_weight=0`` leaves it out.

    Columns may hold numbers, text, categories, dates and missing cells, in a table of any kind: pandas, Arrow, lists of
    rows, arrays, sparse matrices. Guesses about them are reported by ``tabattn.contract.errors.TableWarning``. Labels
    may be of any type whose values can be sorted: numbers, text, truth values, dates, intervals, decimals.

    Args:
        model: The network: None = the weights that ship with the package; or a file of weights (.safetensors), a
            checkpoint of ``PriorClassification`` (.ckpt), or a network, such as a ``PriorNetwork``, which is copied.
        n_estimators: Number of ensemble members of the network, each with its own scaling and its own order of columns
            and classes. None = 2 beside a kernel member, 8 without, 1 with ``plain``.
        kernel_weight: Weight of the kernel member in the average, from 0 to 1 (the network is not used). None = 0.7
            with the weights of the package, 0 with another model or ``plain``. The member reads at most 2000 rows.
        average: Whether to average ``logits`` or ``probabilities``.
        temperature: Divisor of the logits; below 1 makes predictions more confident.
        max_context: Most context rows of a member. Of a larger table each member gets its own stratified sample, with a
            warning.
        chunk_rows: Rows per forward pass; fewer take less memory and give the same predictions.
        plain: Whether the network reads the table once and as it is: cells unscaled, constant columns kept, columns and
            sorted classes in their order. With ``temperature=1`` a converted network then predicts what the classifier
            of its original does.
        cache: Whether to keep the KV cache of the context, so that only the first prediction computes it. Takes ``4 x
            layers x context rows x columns x 2 dim`` bytes for each member.
        device: ``auto`` (a GPU if there is one), or the name of a torch device.
        dtype: Data type of matrix products: ``float32``, or on a GPU ``bfloat16`` or ``float16``.
        random_state: Seed of the orders and samples of the members, or a NumPy random state.

    Attributes:
        classes_: The labels, sorted.
        n_features_in_: Number of columns.
        feature_names_in_: Names of the columns of a DataFrame with text names.
        encoder_: Fitted ``TableEncoder`` of the columns.
        network_: The network.
        x_: Encoded rows, ``(rows, features)``.
        y_: Class index of each row, ``(rows,)``.
        seed_: Seed drawn from ``random_state``.
    """

    def __init__(
        self,
        model: ContextClassifier | str | Path | None = None,
        *,
        n_estimators: int | None = None,
        kernel_weight: float | None = None,
        average: Literal["logits", "probabilities"] = "logits",
        temperature: float = 0.9,
        max_context: int = 2000,
        chunk_rows: int = 512,
        plain: bool = False,
        cache: bool = True,
        device: str | torch.device = "auto",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.model = model
        self.n_estimators = n_estimators
        self.kernel_weight = kernel_weight
        self.average = average
        self.temperature = temperature
        self.max_context = max_context
        self.chunk_rows = chunk_rows
        self.plain = plain
        self.cache = cache
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Store a labelled table as the context of predictions; what they need of it is computed at the first one.

        Args:
            X: Its rows: a DataFrame or anything two-dimensional, ``(rows, columns)``.
            y: Their labels, ``(rows,)``.

        Raises:
            ValueError: The table, the labels, the model or an argument is invalid.
            FileNotFoundError: There are no weights.
        """
        with atomic(self):
            check_arguments(self.get_params(deep=False))
            table = checked_table(self, X, reset=True, y=y)
            self.classes_, self.y_ = check_labels(y)
            check_consistent_length(table, self.y_)
            self.encoder_ = TableEncoder(keep_constant=bool(self.plain))
            self.x_ = _some_column(self.encoder_.fit_encode(table))
            self.network_ = self._load()
            self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
            if len(self.x_) > self.max_context:
                warnings.warn(
                    f"the table has {len(self.x_)} rows: each member of the ensemble reads a stratified sample of "
                    f"{self.max_context} (max_context)",
                    stacklevel=2,
                )
            return self._prepare()

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of the classes, in the order of ``classes_``.

        Args:
            X: Rows with the columns of ``fit``.

        Returns:
            ``(rows, classes)``.
        """
        check_is_fitted(self)
        run = check_arguments(self.get_params(deep=False))
        x = _some_column(self.encoder_.encode(checked_table(self, X, reset=False)))
        if self._reader is None:
            return np.ones((len(x), 1))
        of_network = self._reader.log_probabilities(x, run) if run.kernel_weight < 1 else None
        of_kernel = self._kernel.log_probabilities(x) if run.kernel_weight > 0 else None
        return averaged(of_network, of_kernel, run.kernel_weight, self.average)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predicted (most probable) label of each row, ``(rows,)``."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy, optionally weighted: the share of rows whose predicted label is the true one."""
        given = number_labels(column_or_1d(y), self.classes_)
        found = self.predict_proba(X).argmax(1)
        check_consistent_length(found, given, sample_weight)
        return float(np.average(found == given, weights=sample_weight))

    def save(self, path: str | Path) -> None:
        """Save the fitted estimator as one safetensors file (network, encoder, labels, table), without pickle.

        Raises:
            ValueError: The labels are of a type that cannot be written.
        """
        check_is_fitted(self)
        files.save(self, path)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "auto") -> Self:
        """Load a saved estimator; it predicts in float32 until ``dtype`` is set.

        Args:
            path: The file.
            device: Device of predictions.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged or holds something else.
        """
        return files.load(cls, path, device)._prepare()

    @property
    def cached_bytes(self) -> int:
        """Size of the KV caches in bytes; 0 before the first prediction."""
        check_is_fitted(self)
        return 0 if self._reader is None else self._reader.cached_bytes

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Arguments other than the defaults; a network is shown by its class."""
        if not isinstance(self.model, ContextClassifier):
            return str(super().__repr__(N_CHAR_MAX))
        others = {name: value for name, value in self.get_params(deep=False).items() if name != "model"}
        shown = BaseEstimator.__repr__(type(self)(**others), N_CHAR_MAX).partition("(")[2]
        return f"{type(self).__name__}(model=<{type(self.model).__name__}>{', ' if shown != ')' else ''}{shown}"

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.sparse = True
        return tags

    def _prepare(self) -> Self:
        """Draw the ensemble members; none are needed for a single class."""
        self._reader: Reader | None = None
        members = check_arguments(self.get_params(deep=False)).members
        if len(self.classes_) > 1:
            width, outputs = self.x_.shape[1], self.network_.classes
            if self.plain:
                ensemble = unchanged(self.y_, width, outputs, self.max_context, self.seed_)
            else:
                ensemble = draw(self.y_, width, members, outputs, self.max_context, self.seed_)
            self._reader = Reader(self.network_, self.x_, self.y_, ensemble)
            flags = self.encoder_.categorical_ if len(self.encoder_.columns_) else np.zeros(1, dtype=bool)
            scales = self._reader.scales
            self._kernel = KernelClassifier(self.x_, self.y_, flags, scales, self.max_context, self.seed_)
        return self

    def _load(self) -> ContextClassifier:
        if isinstance(self.model, ContextClassifier):
            if name := non_finite_weight(self.model, self.model.state_dict()):
                raise ValueError(f"model holds weights that are not finite, in {name}: its training had diverged")
            return copy.deepcopy(self.model).cpu().float().eval().requires_grad_(False)
        if not isinstance(self.model, (str, Path, type(None))):
            raise ValueError(f"model must be None, the path of a file or a network, got {self.model!r}")
        return load_network(self.model)


def _some_column(x: Floats) -> Floats:
    """Encoded rows, or a column of zeros if every column is constant."""
    return x if x.shape[1] else np.zeros((len(x), 1))
