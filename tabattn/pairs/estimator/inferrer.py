"""Scikit-learn estimator that infers sequences from other ones and from a few points of their own."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from tabattn.attention import AttentionFactory
from tabattn.contract.fitting import atomic
from tabattn.pairs.estimator import files
from tabattn.pairs.estimator.arguments import check_arguments, layout_of
from tabattn.pairs.estimator.densities import (
    Asked,
    Scale,
    asked_tasks,
    own_scale,
    predict,
    standard_scale,
    warn_beyond,
)
from tabattn.pairs.estimator.observed import Layout, Observed, check_known, read, read_places
from tabattn.pairs.estimator.predictor import DensityPredictor
from tabattn.pairs.estimator.preparing import batches_to_score, tasks_to_fit, tasks_to_score
from tabattn.pairs.estimator.settings import InferrerSettings
from tabattn.pairs.estimator.training import train
from tabattn.pairs.network import PairNetwork
from tabattn.pairs.weights import load_network


class SequenceInferrer(DensityPredictor):
    """Infers values of sequences from other sequences and a few values of their own (a scikit-learn estimator).

    A task consists of observations of sequences along one axis, at any locations. ``fit`` trains a transformer neural
    process, and ``from_pretrained`` takes one trained on synthetic tasks. It predicts a density for each value that is
    asked for, given the observations of its task.

    Tables are wide or long. *Wide*: a column for each sequence, beside one of locations if ``layout`` names it. A
    DataFrame or an array ``(rows, columns)`` is one task to predict; to fit, it is cut into windows of
    ``layout.length`` rows, and locations count from the start of a window. An array ``(tasks, rows, columns)`` holds
    whole tasks. *Long*: a row for each observation, with the columns task, member (sequence), x and y. NaN is a value
    that was not observed.

    Args:
        layout: ``wide`` or ``long``, or ``WindowOptions`` or ``LongOptions`` with names of columns, units and windows.
        infer: Name of the sequence to infer in validation and ``score``, or of several; None = the last. In training
            it may be any (``settings.augmentation.swap_roles``).
        context: Number of observations of each of them that are known there; in training any number. None = a quarter
            of a window, or of the median size of a sequence.
        attention: Mechanism between context points, by name or as a class.
        settings: Settings of network, optimizer and batches; None = the defaults.
        max_steps: Most training steps.
        max_time: Most seconds of a training; None = any.
        patience: Validations without improvement after which the training stops.
        validation_fraction: Share that validates: of the rows of a wide table, the last ones; else of the tasks. 0 =
            all steps are taken.
        device: ``auto`` (a GPU if there is one), or the name of a torch device.
        verbose: Whether to show a progress bar.
        random_state: Seed, or a NumPy random state.

    Attributes:
        names_: Names of the sequences; None = any, of pretrained weights.
        network_: The network.
        mean_: Mean of each sequence in training; None = each task has its own, of pretrained weights.
        std_: Standard deviation of each sequence in training, likewise.
        context_: Number of observations that are known in validation and ``score``.
        validation_scores_: Log-likelihood of each validation, in standardised units.
        level_: Mean that is subtracted from the values of a task, for pretrained weights: of the ``sequence``, or of
            the ``task``.
        unit_: Unit of locations, for pretrained weights; None = a tenth of the extent of each task.
        seed_: Seed drawn from ``random_state``.
    """

    names_: tuple[str, ...] | None
    mean_: tuple[float, ...] | None
    std_: tuple[float, ...] | None
    level_: str | None
    unit_: float | None
    context_: int | None

    def __init__(
        self,
        layout: Layout | str = "wide",
        infer: tuple[str, ...] | str | None = None,
        *,
        context: int | None = None,
        attention: AttentionFactory | str = "Softmax",
        settings: InferrerSettings | None = None,
        max_steps: int = 2000,
        max_time: float | None = None,
        patience: int = 12,
        validation_fraction: float = 0.2,
        device: str | torch.device = "auto",
        verbose: bool = False,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.layout = layout
        self.infer = infer
        self.context = context
        self.attention = attention
        self.settings = settings
        self.max_steps = max_steps
        self.max_time = max_time
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @classmethod
    def from_pretrained(
        cls, source: str | Path, layout: Layout | str = "wide", *, unit: float | None = None, **parameters: Any
    ) -> Self:
        """Take a network that was trained on synthetic tasks, for tables of at most its number of sequences.

        Each task has units of its own: its values are divided by their standard deviation within sequences, less the
        mean of their sequence (kinds with levels) or of the task; its locations are mapped to the axis of training. A
        later ``fit`` trains the network further.

        Args:
            source: Name of shipped weights (``const``, ``rbf_const_2D``, ``rbf_rbf_2D``), or path of a weight file.
            layout: Layout of the tables.
            unit: Length in units of ``x`` over which values change, the length scale: it becomes 1 on the axis of
                training, which is 10 long. None = a tenth of the extent of each task.
            parameters: Further arguments of the constructor.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file holds no such network, or an argument is invalid.
        """
        if unit is not None and not 0 < float(unit) < float("inf"):
            raise ValueError(f"unit must be None or above 0, got {unit!r}")
        settings = parameters.pop("settings", None) or InferrerSettings()
        made = cls(layout, settings=files.starting(settings, source), **parameters)
        check_arguments(made.get_params(deep=False))
        found = load_network(source)
        made.network_, made.described_ = found.network, found.plain
        made.names_, made.mean_, made.std_ = None, None, None
        made.level_ = files.level_of(found.facts)
        made.unit_ = None if unit is None else float(unit)
        made.context_, made.validation_scores_ = made.context, []
        made.seed_ = int(check_random_state(made.random_state).randint(2**31 - 1))
        return made

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on tasks.

        Args:
            X: A wide or a long table, by ``layout``; a long one may have its values in ``y``.
            y: Values of the rows of a long table, ``(rows,)``; None = they are in its column.

        Raises:
            ValueError: The table or an argument is invalid, or there are too few tasks.
            DivergenceError: The training diverged.
        """
        with atomic(self):
            training = check_arguments(self.get_params(deep=False))
            self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
            given = layout_of(self.layout), self.infer, self.context, training, self.seed_
            data = tasks_to_fit(X, y, *given)
            start = None if training.settings.init_from is None else load_network(training.settings.init_from)
            self.network_, self.described_, self.validation_scores_ = train(training, data, start, self.seed_)
            self.names_, self.mean_, self.std_, self.context_ = data.names, data.mean, data.std, data.shown
            self.level_, self.unit_ = None, None
            return self

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-likelihood of a value in nats, in the units of the data; larger is better, and it may be positive.

        Of the sequences to infer, the first ``context_`` observations are known and the others are predicted from them
        and from the other sequences (``settings.scored`` chooses another split). A wide table is cut into windows.

        Args:
            X: Complete tasks, in the layout of ``fit``.
            y: Values of the rows of a long table; None = they are in its column.

        Raises:
            ValueError: There is no task with values to score.
        """
        check_is_fitted(self, "network_")
        training = check_arguments(self.get_params(deep=False))
        layout = layout_of(self.layout)
        shown = self.context_, training.settings, self.names_
        total, count = 0.0, 0
        for known, targets in batches_to_score(tasks_to_score(X, y, layout, self.infer, *shown, self.seed_)):
            asked = list(asked_tasks(known, targets.assign(y=np.nan), self._scale(known, targets)))
            warn_beyond(self.network_, asked)
            density = predict(self.network_, asked, training.device)
            total += float(density.log_prob(torch.from_numpy(targets["y"].to_numpy().copy())).sum())
            count += len(targets)
        return total / count

    def save(self, path: str | Path) -> None:
        """Save the fitted estimator as one safetensors file, without pickle."""
        check_is_fitted(self, "network_")
        files.save(self, path)

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
        return files.load(cls, path, device)

    def _asked(self, X: Any, at: Any) -> tuple[list[Asked], tuple[Observed, pd.DataFrame]]:
        """Tasks with their targets in the units of the network, what is observed, and the targets."""
        check_is_fitted(self, "network_")
        layout = layout_of(self.layout)
        known = read(X, None, layout, self.names_)
        check_known(known)
        if len(known.names) > self.network_.members:
            raise ValueError(f"the network tells {self.network_.members} sequences apart, X has {len(known.names)}")
        missing = known.table[~np.isfinite(known.table["y"])]
        targets = missing if at is None else read_places(at, layout, known).table
        if not len(targets):
            raise ValueError(
                "nothing is asked for: X has no NaN" if at is None else "nothing is asked for: at is empty"
            )
        targets = targets.assign(row=targets["row"].rank().astype(int) - 1)
        asked = list(asked_tasks(known, targets, self._scale(known, targets)))
        warn_beyond(self.network_, asked)
        return asked, (known, targets)

    def _scale(self, known: Observed, targets: pd.DataFrame) -> Scale:
        if self.mean_ is not None and self.std_ is not None:
            return standard_scale(self.mean_, self.std_, len(known.labels))
        assert self.level_ is not None
        network: PairNetwork = self.network_
        return own_scale(network, known, targets, self.unit_, self.level_)
