"""Scikit-learn classifier by in-context learning: ``fit`` stores the table, ``predict`` conditions on it."""

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted

from tabattn.contract.columns import Floats, check_labels, checked_table, number_labels
from tabattn.contract.fitting import atomic
from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.estimator.arguments import CLASSIFIER, Run
from tabattn.prior.estimator.ensemble import Question, Scales, averaged, draw, unchanged
from tabattn.prior.estimator.kernel import KernelClassifier
from tabattn.prior.estimator.predictor import TabularPredictor
from tabattn.prior.estimator.reader import Reader
from tabattn.storage import table_headers

MOST_COLUMNS = 30
"""Most columns that the network reads beside a kernel member; its training had tables of up to 40."""


class TabularClassifier(ClassifierMixin, TabularPredictor):  # type: ignore[misc]
    """In-context classifier of tables (a scikit-learn estimator): a pretrained network conditions on labelled rows.

    ``fit`` encodes and stores the rows, which are the context of every prediction. With the weights of the package,
    predictions mix the network, which is not trained further, with a kernel ridge classifier of the same rows (the
    kernel member). Of more than 30 columns, the network then reads those that are the most relevant to the kernel
    member. ``kernel_weight=0`` leaves it out.

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
        cache: Whether to keep the KV cache of the context, so that only the first prediction computes it. Takes about
            ``8 x context rows x (layers x columns x dim + row layers x row dim)`` bytes for each member.
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

    saved = ("n_estimators", "average", "temperature", "max_context", "chunk_rows", "plain", "cache", "kernel_weight")
    added = {"plain": False, "kernel_weight": 0.0}  # noqa: RUF012 - never changed
    target_type = np.int64
    predicts = "classes"
    packaged = "prior"
    sampling = "stratified sample"
    defaults = CLASSIFIER

    network_: ContextClassifier

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
            self.checked_run()
            table = checked_table(self, X, reset=True, y=y)
            self.classes_, self.y_ = check_labels(y)
            self._store(table, keep_constant=bool(self.plain))
            return self._prepare()

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of the classes, in the order of ``classes_``.

        Args:
            X: Rows with the columns of ``fit``.

        Returns:
            ``(rows, classes)``.
        """
        check_is_fitted(self)
        run = self.checked_run()
        x = self._encoded(X)
        if self._reader is None:
            return np.ones((len(x), 1))
        of_network = self._asked(self._reader, run).log_probabilities(x, run) if run.kernel_weight < 1 else None
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

    def described_targets(self) -> dict[str, Any]:
        return {"labels": table_headers.plain_labels(self.classes_)}

    def restore_targets(self, header: dict[str, Any]) -> None:
        self.classes_ = table_headers.labels(header["labels"])
        if not np.array_equal(np.unique(self.y_), np.arange(len(self.classes_))):
            raise ValueError(f"the rows' labels are not those of {len(self.classes_)} classes")

    @property
    def cached_bytes(self) -> int:
        """Size of the KV caches in bytes; 0 before the first prediction."""
        return super().cached_bytes + (0 if self._narrow is None else self._narrow.cached_bytes)

    def _prepare(self) -> Self:
        """Draw the ensemble members; none are needed for a single class."""
        self._reader: Reader[Question] | None = None
        self._narrow: Reader[Question] | None = None
        if len(self.classes_) > 1:
            members = self.checked_run().members
            self._reader = self._drawn(np.arange(self.x_.shape[1]), members, Scales(self.x_))
            flags, scales = self._categorical(), self._reader.scales
            self._kernel = KernelClassifier(self.x_, self.y_, flags, scales, self.max_context, self.seed_)
        return self

    def _drawn(self, columns: NDArray[np.int64], members: int, scales: Scales) -> Reader[Question]:
        """Reader of some columns, by ensemble members that are drawn by the seed."""
        outputs = self.network_.classes
        if self.plain:
            ensemble = unchanged(self.y_, len(columns), outputs, self.max_context, self.seed_)
        else:
            ensemble = draw(self.y_, columns, members, outputs, self.max_context, self.seed_)
        return Reader(self.network_, self.x_, self.y_, ensemble, scales)

    def _asked(self, whole: Reader[Question], run: Run) -> Reader[Question]:
        """Reader of all columns; beside a kernel member, that of its most relevant ones, where there are many."""
        if self.x_.shape[1] <= MOST_COLUMNS or run.kernel_weight == 0:
            return whole
        if self._narrow is None:
            columns = np.sort(np.argsort(-self._kernel.relevance, kind="stable")[:MOST_COLUMNS])
            self._narrow = self._drawn(columns, len(whole.ensemble.members), whole.scales)
        return self._narrow
