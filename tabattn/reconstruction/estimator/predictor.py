"""What the estimators that predict labels have in common."""

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from tabattn.attention import AttentionFactory
from tabattn.contract.cells import Column
from tabattn.contract.columns import TableEncoder, checked_table
from tabattn.reconstruction.cell_network import Reconstruction
from tabattn.reconstruction.estimator import files
from tabattn.reconstruction.estimator.arguments import check_arguments
from tabattn.reconstruction.estimator.cells import columns_of, standardised
from tabattn.reconstruction.estimator.fitting import fit_members
from tabattn.reconstruction.estimator.members import Members
from tabattn.reconstruction.estimator.settings import PREDICTION, TrainingSettings


class NPTPredictor(BaseEstimator):  # type: ignore[misc]
    """Base of the estimators that predict labels by a Non-Parametric Transformer trained on the table itself.

    ``fit`` trains a network to predict hidden labels, and hidden feature cells, from the other cells of the row and
    from the other rows. Columns may hold numbers, text, categories, dates and missing cells, in a table of any kind. A
    category that ``fit`` has not seen is a missing cell. Rows to predict attend to the rows of ``fit`` alone, so a
    prediction does not depend on the other rows.

    The default network, ``ProcessTransformer``, corrects Gaussian processes. Of more than 1000 rows to train on, these
    condition on up to 10,000, evenly spaced, whose covariance bounds time and memory of a ``fit`` (``memory_rows``, an
    option of the network in ``settings``).

    Args:
        attention: Mechanism between rows, by name or as a class.
        attribute_attention: Mechanism between the columns of a row.
        settings: Settings of network and optimizer; None = ``defaults``, those of the class.
        n_members: Number of networks whose predictions are averaged, each with its own seed and validation rows.
        max_steps: Most training steps.
        patience: Validations without improvement after which a training stops.
        validation_fraction: Share of the rows to validate on; 0 = all steps are taken.
        context_rows: Most rows that a row attends to. Of a larger table several samples are drawn, and averaged over.
        device: ``auto`` (a GPU if there is one), or the name of a torch device.
        verbose: Whether to show a progress bar.
        random_state: Seed, or a NumPy random state.

    Attributes:
        encoder_: Fitted ``TableEncoder`` of the columns.
        members_: Networks and context rows; None for a single class.
        validation_losses_: Loss of each validation, for each member.
        n_features_in_: Number of columns.
        feature_names_in_: Names of the columns of a DataFrame with text names.
        seed_: Seed drawn from ``random_state``.
    """

    members_: Members | None

    defaults: ClassVar[TrainingSettings] = PREDICTION
    """Settings where ``settings`` is None."""

    def __init__(
        self,
        attention: AttentionFactory | str = "Softmax",
        *,
        attribute_attention: AttentionFactory | str = "Softmax",
        settings: TrainingSettings | None = None,
        n_members: int = 1,
        max_steps: int = PREDICTION.steps,
        patience: int = PREDICTION.patience,
        validation_fraction: float = 0.2,
        context_rows: int = 1024,
        device: str | torch.device = "auto",
        verbose: bool = False,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.attention = attention
        self.attribute_attention = attribute_attention
        self.settings = settings
        self.n_members = n_members
        self.max_steps = max_steps
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.context_rows = context_rows
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def _begin(self, X: Any, y: Any) -> pd.DataFrame:
        """Check arguments and table, and forget an earlier fit."""
        check_arguments(self.get_params(deep=False), self.defaults)
        table = checked_table(self, X, reset=True, y=y)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.members_ = None
        self.validation_losses_: list[list[float]] = []
        return table

    def _encode(self, table: pd.DataFrame) -> NDArray[np.float64]:
        self.encoder_ = TableEncoder()
        return self.encoder_.fit_encode(table, nominal=True)

    def _train(
        self,
        x: NDArray[np.float64],
        labels: tuple[Column, ...],
        truth: NDArray[np.float32],
        classes: NDArray[np.int64] | None,
    ) -> Self:
        """Train on encoded features and labels.

        Args:
            x: Encoded features, ``(rows, features)``.
            labels: Columns of the labels.
            truth: Standardised labels, or their classes, ``(rows, labels)``.
            classes: Class of each row; None = the labels are numbers.
        """
        check_consistent_length(x, truth)
        columns = columns_of(self.encoder_, x, target=False)
        cells = np.concatenate([standardised(x, columns), truth], axis=1)
        self.members_, self.validation_losses_ = fit_members(
            check_arguments(self.get_params(deep=False), self.defaults),
            (*columns, *labels),
            cells,
            list(range(len(columns), len(columns) + len(labels))),
            classes,
            float(self.validation_fraction),
            int(self.n_members),
            int(self.context_rows),
            self.seed_,
        )
        return self

    def _predict(self, X: Any) -> Reconstruction:
        """Predictions of all cells of rows, of which the labels are the last."""
        check_is_fitted(self)
        training = check_arguments(self.get_params(deep=False), self.defaults)
        x = self.encoder_.encode(checked_table(self, X, reset=False))
        assert self.members_ is not None
        columns = self.members_.columns
        features = columns[: x.shape[1]]
        unknown = np.full((len(x), len(columns) - len(features)), np.nan, np.float32)
        cells = np.concatenate([standardised(x, features), unknown], axis=1)
        return self.members_.predict(torch.from_numpy(cells), training.device, int(self.context_rows))

    def save(self, path: str | Path) -> None:
        """Save the fitted estimator as one safetensors file (networks, encoder, context rows), without pickle.

        Raises:
            ValueError: A part of it is of a type that cannot be written.
        """
        check_is_fitted(self)
        files.save(self, path, self.defaults, self._facts())

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "auto") -> Self:
        """Load a saved estimator.

        Args:
            path: The file.
            device: Device of predictions.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged or holds something else.
        """
        found, header = files.load(cls, path, device, cls.defaults)
        with files.refusing(path):
            found._restore(header)
        return found

    def _facts(self) -> dict[str, Any]:
        """What the class adds to the header of its file."""
        raise NotImplementedError

    def _restore(self, header: dict[str, Any]) -> None:
        """Set what the class has added to the header, once it is checked."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.sparse = True
        return tags
