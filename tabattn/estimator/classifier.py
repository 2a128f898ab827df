"""In-context classification for users of scikit-learn: ``fit`` keeps the table, ``predict`` reads it."""

import copy
import warnings
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tabattn.encode import TableEncoder
from tabattn.estimator import files
from tabattn.estimator.arguments import check_arguments
from tabattn.estimator.ensemble import Floats, draw
from tabattn.estimator.reader import Reader
from tabattn.models.prior import PriorNetwork
from tabattn.weights import load_network


class TabularClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifies the rows of a table by reading labelled rows, with a network that was trained beforehand.

    Nothing is trained: ``fit`` encodes and keeps the rows, and the network reads them at the first prediction.
    Columns may hold numbers, text, categories, dates and missing cells; labels may be of any type.

    Args:
        model: The network: None = the weights that ship with the package; or a file of weights (.safetensors), a
            checkpoint of ``PriorClassification`` (.ckpt), or a ``PriorNetwork``, which is copied.
        n_estimators: Number of members of the ensemble, each with its own scale and order of columns and classes.
        average: What the members' mean is taken of: ``logits`` or ``probabilities``.
        temperature: Divides the network's logits; below 1 makes predictions more certain.
        max_context: Most rows that a member reads. Of larger tables each member reads a stratified sample of its own,
            and a warning says so.
        chunk_rows: Rows that are predicted at one time: less memory, the same predictions.
        cache: Whether to remember what the network read of the table, so that further predictions need not read it
            anew. Takes for each member ``4 x layers x context rows x columns x 2 dim`` bytes.
        device: ``auto`` (a GPU where there is one), or the name of a torch device.
        dtype: Type of the matrix products: ``float32``, or on a GPU ``bfloat16`` or ``float16``.
        random_state: Decides over orders and samples.

    Attributes:
        classes_: The labels, sorted.
        n_features_in_: Number of columns.
        feature_names_in_: Names of the columns of a DataFrame with text names.
        encoder_: Turns columns into numbers.
        network_: The network.
        x_: Encoded rows, ``(rows, features)``.
        y_: Class of each row, ``(rows,)``.
        seed_: What ``random_state`` gave.
    """

    def __init__(
        self,
        model: PriorNetwork | str | Path | None = None,
        *,
        n_estimators: int = 8,
        average: Literal["logits", "probabilities"] = "logits",
        temperature: float = 0.9,
        max_context: int = 2000,
        chunk_rows: int = 512,
        cache: bool = True,
        device: str | torch.device = "auto",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.model = model
        self.n_estimators = n_estimators
        self.average = average
        self.temperature = temperature
        self.max_context = max_context
        self.chunk_rows = chunk_rows
        self.cache = cache
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Keep a table.

        Args:
            X: Its rows: a DataFrame or anything two-dimensional, ``(rows, columns)``.
            y: Their labels, ``(rows,)``.

        Raises:
            ValueError: The table, the labels, the model or an argument will not do.
            FileNotFoundError: There are no weights.
        """
        check_arguments(self.get_params(deep=False))
        table = self._check_table(X, reset=True, y=y)
        self.classes_, self.y_ = _check_labels(y)
        check_consistent_length(table, self.y_)
        self.encoder_ = TableEncoder().fit(table)
        self.x_ = self._encode(table)
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
        x = self._encode(self._check_table(X, reset=False))
        if self._reader is None:
            return np.ones((len(x), 1))
        scores = self._reader.log_probabilities(x, run).astype(np.float64)
        scores = scores.mean(0) if self.average == "logits" else logsumexp(scores, axis=0)
        return np.exp(scores - logsumexp(scores, axis=1, keepdims=True))

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each row, ``(rows,)``."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to one safetensors file: network, encoder, labels and table; no code.

        Raises:
            ValueError: The labels are of a type that cannot be written.
        """
        check_is_fitted(self)
        files.save(self, path)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "auto") -> Self:
        """Read what ``save`` wrote; predictions are in float32 until ``dtype`` is set to something else.

        Args:
            path: The file.
            device: Where to predict.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged or holds something else.
        """
        return files.load(cls, path, device)._prepare()

    @property
    def cached_bytes(self) -> int:
        """Memory that the remembered table takes; 0 before the first prediction."""
        check_is_fitted(self)
        return 0 if self._reader is None else self._reader.cached_bytes

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def _check_table(self, X: Any, *, reset: bool, y: Any = "no_validation") -> Any:
        """Check the shape of a table, and its columns against those of ``fit``; ``reset`` = this is ``fit``."""
        if isinstance(X, pd.DataFrame):
            check_array(np.empty(X.shape, dtype=bool), estimator=self)  # complains about sizes in the usual words
            table = X
        else:
            table = check_array(X, dtype=None, ensure_all_finite=False, estimator=self)
        validate_data(self, X, y, reset=reset, skip_check_array=True)
        return table

    def _encode(self, table: Any) -> Floats:
        """A table as numbers; a column of zeros where no column tells anything."""
        x = self.encoder_.transform(table)
        return x if x.shape[1] else np.zeros((len(x), 1))

    def _prepare(self) -> Self:
        """Draw the members. With one class there is nothing to ask."""
        self._reader: Reader | None = None
        if len(self.classes_) > 1:
            size, outputs = self.n_estimators, self.network_.classes
            ensemble = draw(self.y_, self.x_.shape[1], size, outputs, self.max_context, self.seed_)
            self._reader = Reader(self.network_, self.x_, self.y_, ensemble)
        return self

    def _load(self) -> PriorNetwork:
        if isinstance(self.model, PriorNetwork):
            return copy.deepcopy(self.model).cpu().float().eval().requires_grad_(False)
        return load_network(self.model)


def _check_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The different labels, sorted, and the number of each row's label."""
    y = column_or_1d(y, warn=True)
    if missing := int(pd.isna(y).sum()):
        raise ValueError(f"Input y contains NaN: {missing} of {len(y)} rows have no label")
    if y.dtype.kind == "f" and np.isinf(y).any():
        raise ValueError("Input y contains infinity")
    if y.dtype == object:
        y = pd.Series(y).infer_objects().to_numpy()
    try:
        check_classification_targets(y)
        return np.unique(y, return_inverse=True)
    except TypeError as ex:
        raise ValueError(f"labels must be of one kind that can be sorted: {ex}") from ex
