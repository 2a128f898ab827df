"""Classifier by a Non-Parametric Transformer that is trained on the table itself."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from tabattn.contract.cells import Column
from tabattn.contract.columns import Floats, check_labels, checked_table, number_labels
from tabattn.contract.fitting import atomic
from tabattn.reconstruction.estimator.predictor import NPTPredictor
from tabattn.reconstruction.estimator.settings import CLASSIFICATION
from tabattn.storage import table_headers


class NPTClassifier(ClassifierMixin, NPTPredictor):  # type: ignore[misc]
    """Classifier that trains a Non-Parametric Transformer on its table (a scikit-learn estimator).

    Labels may be of any type whose values can be sorted. Arguments and other attributes are those of ``NPTPredictor``.

    Attributes:
        classes_: The labels, sorted.
    """

    defaults = CLASSIFICATION

    def fit(self, X: Any, y: Any) -> Self:
        """Train on labelled rows.

        Args:
            X: The rows: a DataFrame or anything two-dimensional, ``(rows, columns)``.
            y: Their labels, ``(rows,)``.

        Raises:
            ValueError: The table, the labels or an argument is invalid.
            DivergenceError: The training diverged.
        """
        with atomic(self):
            table = self._begin(X, y)
            self.classes_, codes = check_labels(y)
            check_consistent_length(table, codes)
            x = self._encode(table)
            if len(self.classes_) == 1:
                return self
            label = Column("y", tuple(map(str, range(len(self.classes_)))), target=True)
            return self._train(x, (label,), codes[:, None].astype(np.float32), codes)

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of the classes, in the order of ``classes_``, ``(rows, classes)``."""
        check_is_fitted(self)
        if self.members_ is None:
            return np.ones((len(self.encoder_.encode(checked_table(self, X, reset=False))), 1))
        logits = self._predict(X).logits[0, :, -1, : len(self.classes_)]
        return np.asarray(logits.double().softmax(-1).numpy())

    def predict(self, X: Any) -> NDArray[Any]:
        """Most probable label of each row, ``(rows,)``."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy, optionally weighted."""
        given = number_labels(np.asarray(y).ravel() if np.ndim(y) > 1 else y, self.classes_)
        found = self.predict_proba(X).argmax(1)
        check_consistent_length(found, given, sample_weight)
        return float(np.average(found == given, weights=sample_weight))

    def _facts(self) -> dict[str, Any]:
        return {"labels": table_headers.plain_labels(self.classes_)}

    def _restore(self, header: dict[str, Any]) -> None:
        self.classes_ = table_headers.labels(header["labels"])
        if (self.members_ is None) != (len(self.classes_) == 1):
            raise ValueError(f"networks do not fit {len(self.classes_)} classes")
        if self.members_ is not None:
            table_headers.check_columns(self.members_.columns, self.encoder_, [len(self.classes_)])
