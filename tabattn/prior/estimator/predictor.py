"""Abstract base class of in-context estimators: encoded context, network, files, and scikit-learn's contract."""

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from tabattn.contract.columns import Floats, TableEncoder, checked_table
from tabattn.prior.classifier_network import ContextClassifier
from tabattn.prior.estimator import files
from tabattn.prior.estimator.arguments import Defaults, Run, check_arguments
from tabattn.prior.estimator.reader import Reader
from tabattn.prior.weights import load_network
from tabattn.storage.finite import non_finite_weight


class TabularPredictor(BaseEstimator, ABC):  # type: ignore[misc]
    """Abstract in-context estimator of tables: ``fit`` encodes and stores the rows, the context of every prediction.

    A subclass has the arguments ``model``, ``max_context``, ``chunk_rows``, ``cache``, ``device``, ``dtype`` and
    ``random_state``.

    Attributes:
        n_features_in_: Number of columns.
        feature_names_in_: Names of the columns of a DataFrame with text names.
        encoder_: Fitted ``TableEncoder`` of the columns.
        network_: The network; None = not used.
        x_: Encoded rows, ``(rows, features)``.
        y_: Target of each row, ``(rows,)``.
        seed_: Seed drawn from ``random_state``.
    """

    saved: ClassVar[tuple[str, ...]]
    """Arguments that are saved; device and dtype are not, as they depend on the machine."""
    added: ClassVar[Mapping[str, Any]] = {}
    """Arguments that earlier files lack, with what their estimators did."""
    target_type: ClassVar[type[np.generic]]
    """Data type of ``y_``."""
    predicts: ClassVar[Literal["classes", "numbers"]]
    """What networks of such an estimator predict."""
    sampling: ClassVar[str]
    """Noun for the sample of rows that a member reads, in messages."""
    packaged: ClassVar[str]
    """Name of the packaged weights."""
    defaults: ClassVar[Defaults]
    """Sizes of the ensemble where arguments are None."""
    may_lack_network: ClassVar[bool] = False
    """Whether a fitted estimator may be without a network."""

    network_: ContextClassifier | None
    x_: Floats
    y_: NDArray[Any]
    _reader: Reader[Any] | None

    def save(self, path: str | Path) -> None:
        """Save the fitted estimator as one safetensors file (network, encoder, targets, table), without pickle.

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

    def checked_run(self) -> Run:
        """Checked arguments."""
        return check_arguments(self.get_params(deep=False), self.defaults)

    @classmethod
    def checked_network(cls, network: ContextClassifier) -> ContextClassifier:
        """Return the network; raises ValueError if it predicts something else than such an estimator."""
        if network.targets != cls.predicts:
            raise ValueError(f"the network of a {cls.__name__} must predict {cls.predicts}, this one {network.targets}")
        return network

    @abstractmethod
    def described_targets(self) -> dict[str, Any]:
        """Facts of the targets, for the header of a file."""

    @abstractmethod
    def restore_targets(self, header: dict[str, Any]) -> None:
        """Set and check the facts of the targets from the header of a file, given ``y_``.

        Raises:
            ValueError: They do not fit.
            KeyError: One is missing.
        """

    @abstractmethod
    def _prepare(self) -> Self:
        """Draw the ensemble members."""

    def _store(self, table: pd.DataFrame, keep_constant: bool = False) -> None:
        """Encode and keep the context rows; load the network."""
        check_consistent_length(table, self.y_)
        self.encoder_ = TableEncoder(keep_constant=keep_constant)
        self.x_ = some_column(self.encoder_.fit_encode(table))
        self.network_ = self._load()
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        if len(self.x_) > self.max_context:
            warnings.warn(
                f"the table has {len(self.x_)} rows: each member of the ensemble reads a {self.sampling} of "
                f"{self.max_context} (max_context)",
                stacklevel=3,
            )

    def _encoded(self, X: Any) -> Floats:
        """Encoded rows of a table with the columns of ``fit``."""
        return some_column(self.encoder_.encode(checked_table(self, X, reset=False)))

    def _categorical(self) -> NDArray[np.bool_]:
        """Which columns of ``x_`` hold codes of categories."""
        return self.encoder_.categorical_ if len(self.encoder_.columns_) else np.zeros(1, dtype=bool)

    def _load(self) -> ContextClassifier | None:
        if isinstance(self.model, ContextClassifier):
            if name := non_finite_weight(self.model, self.model.state_dict()):
                raise ValueError(f"model holds weights that are not finite, in {name}: its training had diverged")
            return self.checked_network(copy.deepcopy(self.model)).cpu().float().eval().requires_grad_(False)
        if not isinstance(self.model, (str, Path, type(None))):
            raise ValueError(f"model must be None, the path of a file or a network, got {self.model!r}")
        return self.checked_network(load_network(self.model, self.packaged))


def some_column(x: Floats) -> Floats:
    """Encoded rows, or a column of zeros if every column is constant."""
    return x if x.shape[1] else np.zeros((len(x), 1))
