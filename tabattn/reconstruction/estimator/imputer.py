"""Imputation of missing cells of mixed tables, as a scikit-learn transformer."""

import warnings
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from tabattn.attention import AttentionFactory
from tabattn.contract.columns import Floats, TableEncoder, checked_table
from tabattn.contract.errors import TableWarning
from tabattn.contract.fitting import atomic
from tabattn.reconstruction.cell_network import Reconstruction
from tabattn.reconstruction.estimator import files
from tabattn.reconstruction.estimator.arguments import check_arguments
from tabattn.reconstruction.estimator.cells import columns_of, standardised
from tabattn.reconstruction.estimator.filling import category_shares, draw_cells, most_likely
from tabattn.reconstruction.estimator.fitting import fit_members
from tabattn.reconstruction.estimator.members import Members
from tabattn.reconstruction.estimator.restore import (
    constants_of,
    entries_of,
    filled_columns,
    filled_table,
    like,
    missing_cells,
)
from tabattn.reconstruction.estimator.settings import IMPUTATION, TrainingSettings
from tabattn.reconstruction.estimator.writing import Writing
from tabattn.storage import table_headers

Missing = NDArray[np.bool_]


class TabularImputer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Imputer of missing cells (a scikit-learn transformer): a Non-Parametric Transformer trained on the table itself.

    ``fit`` trains a network to predict hidden cells of the table from the other cells of their row and from the other
    rows; ``transform`` fills the cells that are missing with predicted means, or with the most probable category.
    Columns may hold numbers, text, categories, dates, in a table of any kind; a DataFrame is returned as a DataFrame
    with the types of its columns, an array as an array. A category that ``fit`` has not seen stays as it is, and says
    nothing of the other cells of its row. Filled numbers lie within the range of their column in ``fit``.

    Args:
        attention: Mechanism between rows, by name or as a class.
        attribute_attention: Mechanism between the columns of a row.
        settings: Settings of network and optimizer; None = ``IMPUTATION``.
        n_members: Number of networks whose predictions are averaged, each with its own seed and validation rows.
        max_steps: Most training steps.
        patience: Validations without improvement after which a training stops.
        validation_fraction: Share of the rows of which known cells are hidden to validate on; 0 = all steps are taken.
        context_rows: Most rows that a row attends to. Of a larger table several samples are drawn, and averaged over.
        keep_empty_features: Whether columns without any value in ``fit`` are kept, filled with 0, as by
            ``SimpleImputer``. Otherwise they are dropped, with a warning.
        device: ``auto`` (a GPU if there is one), or the name of a torch device.
        verbose: Whether to show a progress bar.
        random_state: Seed, or a NumPy random state.

    Attributes:
        encoder_: Fitted ``TableEncoder`` of the columns.
        members_: Networks and context rows; None where no column varies.
        entries_: Entries of the categories of each column of the encoder; empty for a numeric column.
        writings_: How the entries of each column of numbers, dates or durations are written; None for categories.
        ranges_: Least and largest number of each column of the encoder, ``(2, columns)``.
        constants_: Value of each constant column, by its index.
        empty_: Indices of the columns without a value.
        validation_losses_: Loss of each validation, for each member.
        n_features_in_: Number of columns.
        feature_names_in_: Names of the columns of a DataFrame with text names.
        seed_: Seed drawn from ``random_state``.
    """

    def __init__(
        self,
        attention: AttentionFactory | str = "Softmax",
        *,
        attribute_attention: AttentionFactory | str = "Softmax",
        settings: TrainingSettings | None = None,
        n_members: int = 1,
        max_steps: int = IMPUTATION.steps,
        patience: int = IMPUTATION.patience,
        validation_fraction: float = 0.2,
        context_rows: int = 1024,
        keep_empty_features: bool = False,
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
        self.keep_empty_features = keep_empty_features
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on the cells of a table that are not missing.

        Args:
            X: The table, ``(rows, columns)``.
            y: Ignored.

        Raises:
            ValueError: The table or an argument is invalid.
            DivergenceError: The training diverged.
        """
        with atomic(self):
            training = check_arguments(self.get_params(deep=False), IMPUTATION)
            table = checked_table(self, X, reset=True)
            self.encoder_ = TableEncoder()
            x = self.encoder_.fit_encode(table, nominal=True)
            self.labels_ = list(table.columns)
            self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
            self.constants_, self.empty_ = constants_of(table, self.encoder_)
            self._warn_of_empty()
            kept = list(zip(self.encoder_.columns_, self.encoder_.readings_, x.T, strict=True))
            self.entries_ = [entries_of(table.iloc[:, index], codes, reading) for index, reading, codes in kept]
            self.writings_ = [Writing.fitted(table.iloc[:, index], codes, reading) for index, reading, codes in kept]
            self.ranges_ = np.stack([np.nanmin(x, axis=0), np.nanmax(x, axis=0)])
            self.members_: Members | None = None
            self.validation_losses_: list[list[float]] = []
            if kept:
                columns = columns_of(self.encoder_, x, target=True)
                self.members_, self.validation_losses_ = fit_members(
                    training,
                    columns,
                    standardised(x, columns),
                    [],
                    None,
                    float(self.validation_fraction),
                    int(self.n_members),
                    int(self.context_rows),
                    self.seed_,
                )
        return self

    def transform(self, X: Any) -> Any:
        """Fill the missing cells of a table.

        Args:
            X: Rows with the columns of ``fit``.

        Returns:
            The table without the columns that were empty in ``fit``, unless ``keep_empty_features``.
        """
        table, x, missing = self._read(X)
        rows = missing.any(1)
        values = x.copy()
        if rows.any():
            assert self.members_ is not None
            found = self._predict(x[rows])
            filled = np.clip(most_likely(self.members_, found), *self.ranges_)
            values[rows] = np.where(missing[rows], filled, x[rows])
        return like(X, self._filled(table, values, missing))

    def sample(self, X: Any, n: int = 1, random_state: int | np.random.RandomState | None = None) -> list[Any]:
        """Draw several imputations: cells of a row one after the other, each given those drawn before.

        Args:
            X: Rows with the columns of ``fit``.
            n: Number of imputations.
            random_state: Seed of the draws; None = another one each time.

        Returns:
            ``n`` filled tables.

        Raises:
            ValueError: ``n`` is below 1.
        """
        number: Any = n
        if type(number) is bool or not isinstance(number, Integral) or int(number) < 1:
            raise ValueError(f"n must be a whole number, at least 1, got {n!r}")
        table, x, missing = self._read(X)
        draws = check_random_state(random_state)
        drawn = (draw_cells(self._predict, self.members_, x, missing, self.ranges_, draws) for _ in range(int(n)))
        return [like(X, self._filled(table, values, missing)) for values in drawn]

    def cell_probabilities(self, X: Any) -> dict[Any, pd.DataFrame]:
        """Probabilities of the categories of every cell in a categorical column; 1 for the entry of a known cell.

        Args:
            X: Rows with the columns of ``fit``.

        Returns:
            For each categorical column, by its name or index, a DataFrame ``(rows, categories)``. A category that
            ``fit`` has not seen has a row of zeros.
        """
        table, x, missing = self._read(X)
        rows = missing.any(1)
        found = self._predict(x[rows]).logits[0].exp().double().numpy() if rows.any() else None
        out = {}
        for at, place in enumerate(place for place, entries in enumerate(self.entries_) if entries):
            entries, gaps = pd.Index(self.entries_[place], dtype=object), missing[:, place]
            predicted = None if found is None else found[gaps[rows], at]
            name = self.labels_[self.encoder_.columns_[place]]
            out[name] = pd.DataFrame(category_shares(x[:, place], len(entries), gaps, predicted), table.index, entries)
        return out

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns that ``transform`` returns; ``x0``, ``x1``, ... where they had none."""
        check_is_fitted(self)
        names = OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        return np.asarray(names, dtype=object)[self._kept()]

    def save(self, path: str | Path) -> None:
        """Save the fitted imputer as one safetensors file, without pickle.

        Raises:
            ValueError: An entry of a column is of a type that cannot be written.
        """
        check_is_fitted(self)
        constants = {str(index): files.plain_entry(entry) for index, entry in self.constants_.items()}
        entries = [[files.plain_entry(entry) for entry in each] for each in self.entries_]
        facts = {"writings": self.writings_, "ranges": self.ranges_.tolist(), "constants": constants}
        files.save(self, path, IMPUTATION, {"entries": entries, "empty": self.empty_, **facts})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "auto") -> Self:
        """Load a saved imputer.

        Args:
            path: The file.
            device: Device of predictions.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is damaged or holds something else.
        """
        found, header = files.load(cls, path, device, IMPUTATION)
        with files.refusing(path):
            found.labels_ = list(getattr(found.encoder_, "labels_", range(found.n_features_in_)))
            found.entries_ = files.entries_of(header["entries"], found.encoder_.categories_)
            found.writings_ = files.writings_of(header.get("writings"), found.encoder_.readings_)
            found.ranges_ = files.ranges_of(header.get("ranges"), len(found.entries_))
            if found.members_ is not None:
                table_headers.check_columns(found.members_.columns, found.encoder_, [])
            elif len(found.encoder_.columns_):
                raise ValueError("it has no network")
            found.constants_, found.empty_ = files.others_of(header, found.n_features_in_, found.encoder_.columns_)
        return found

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.sparse = True
        return tags

    def _warn_of_empty(self) -> None:
        """Name the columns without a value in a warning."""
        if self.empty_:
            names = ", ".join(repr(self.labels_[index]) for index in self.empty_)
            what = "filled with 0" if self.keep_empty_features else "left out (keep_empty_features keeps them)"
            warnings.warn(f"columns without any value are {what}: {names}", TableWarning, stacklevel=3)

    def _kept(self) -> list[int]:
        """Indices of the columns that are returned."""
        return [index for index in range(self.n_features_in_) if self.keep_empty_features or index not in self.empty_]

    def _read(self, X: Any) -> tuple[pd.DataFrame, Floats, Missing]:
        """The table, its encoded cells, and which of them are to be filled."""
        check_is_fitted(self)
        table = checked_table(self, X, reset=False)
        x = self.encoder_.encode(table)
        kept = zip(self.encoder_.columns_, self.encoder_.readings_, x.T, strict=True)
        gaps = [missing_cells(table.iloc[:, index], codes, reading) for index, reading, codes in kept]
        return table, x, np.stack(gaps, axis=1) if gaps else np.zeros(x.shape, dtype=bool)

    def _predict(self, x: Floats) -> Reconstruction:
        assert self.members_ is not None
        training = check_arguments(self.get_params(deep=False), IMPUTATION)
        cells = torch.from_numpy(standardised(x, self.members_.columns))
        return self.members_.predict(cells, training.device, int(self.context_rows))

    def _filled(self, table: pd.DataFrame, values: Floats, missing: Missing) -> pd.DataFrame:
        """The table with its missing cells filled."""
        cells = filled_columns(table, self.encoder_, self.entries_, self.writings_, values, missing)
        return filled_table(table, self._kept(), cells, self.constants_)
