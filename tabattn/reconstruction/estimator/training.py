"""Training of an estimator's network by Lightning: moving average of the weights, early stopping, best weights."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from datamodules.counter import CounterLoader
from tabattn.attention import AttentionFactory
from tabattn.contract.cells import CellBatch, Column
from tabattn.contract.errors import DivergenceError
from tabattn.optim import WarmupCosine
from tabattn.optim.divergence import DivergenceGuard
from tabattn.reconstruction.cell_network import CellNetwork
from tabattn.reconstruction.estimator.settings import TrainingSettings
from tabattn.reconstruction.task import TableReconstruction

ADVICE = (
    "The '.*_dataloader' does not have many workers",
    "The number of training batches",
    "GPU available",
    "You defined a `validation_step` but have no `val_dataloader`",
)
"""Beginnings of Lightning's warnings that an estimator's user cannot act on."""


class Training(NamedTuple):
    """How a network is trained.

    Attributes:
        settings: Settings of network and optimizer.
        attention: Mechanism between rows.
        attribute_attention: Mechanism between the columns of a row.
        steps: Most steps.
        patience: Validations without improvement after which it stops.
        device: Device.
        verbose: Whether to show a progress bar.
    """

    settings: TrainingSettings
    attention: AttentionFactory
    attribute_attention: AttentionFactory
    steps: int
    patience: int
    device: torch.device
    verbose: bool


class BestAverage(Callback):
    """Early stopping on the moving average of the weights, whose best values are kept.

    Args:
        decay: Decay of the moving average; 0 = the weights themselves.
        patience: Validations without improvement after which the training stops.
    """

    def __init__(self, decay: float, patience: int) -> None:
        self.decay = decay
        self.patience = patience
        self.best = float("inf")
        self.weights: dict[str, Tensor] | None = None
        self.worse = 0
        self.history: list[float] = []
        self.current: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the average."""
        self.average = AveragedModel(_network(pl_module), multi_avg_fn=get_ema_multi_avg_fn(self.decay))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Update the average."""
        self.average.update_parameters(_network(pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average in place of the weights."""
        self.current = copied(_network(pl_module))
        _network(pl_module).load_state_dict(self.average.module.state_dict())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the average if it is the best, else count; put the weights back."""
        loss = float(trainer.callback_metrics["val/loss"])
        self.history.append(loss)
        if loss < self.best:
            self.best, self.worse = loss, 0
            self.weights = copied(_network(pl_module))
        else:
            self.worse += 1
            trainer.should_stop = trainer.should_stop or self.worse >= self.patience
        _network(pl_module).load_state_dict(self.current)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the best average; the last one where nothing was validated."""
        _network(pl_module).load_state_dict(self.weights or self.average.module.state_dict())


def train(
    training: Training,
    columns: tuple[Column, ...],
    known: tuple[Tensor, Tensor],
    batches: Dataset[CellBatch],
    held_out: Dataset[CellBatch] | None,
    seed: int,
) -> tuple[CellNetwork, list[float]]:
    """Train a network; no global random state is touched.

    Args:
        training: How.
        columns: The columns of the table.
        known: Numbers of all rows to learn from, and their cells, ``(rows, columns)``, by which the network prepares
            itself.
        batches: Endless training batches.
        held_out: Validation batches; None = there are none, so that all steps are taken.
        seed: Seed of the initial weights and of dropout.

    Returns:
        The network with the best weights, on the CPU, and the loss of each validation.

    Raises:
        DivergenceError: Loss or weights were not finite.
        KeyboardInterrupt: The user interrupts it.
    """
    settings = training.settings
    rounds = max(1, round(training.steps / settings.validate_every))
    every = max(1, training.steps // rounds)
    best = BestAverage(settings.decay, training.patience)
    device = training.device
    with _quiet(training.verbose), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        plain = [column.plain() for column in columns]
        task = TableReconstruction(
            settings.network, training.attention, training.attribute_attention, settings.loss, columns=plain
        )
        task.use_optimizer(settings.optimizer, WarmupCosine)
        rows, truth = known
        task.prepare(truth, row=rows)
        trainer = Trainer(
            accelerator=device.type,
            devices=[device.index or 0] if device.type == "cuda" else 1,
            max_steps=rounds * every,
            gradient_clip_val=settings.clip,
            callbacks=[DivergenceGuard(), best],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=training.verbose,
            num_sanity_val_steps=0,
            inference_mode=False,
        )
        scored = None if held_out is None else DataLoader(held_out, batch_size=None)
        try:
            trainer.fit(task, CounterLoader(batches, every), scored)
        except DivergenceError as ex:
            raise DivergenceError(f"{str(ex).partition(';')[0]}: a lower learning rate in settings may help") from ex
        except SystemExit as ex:  # Lightning's answer to an interrupt, which would end the user's session.
            raise KeyboardInterrupt from ex
    return task.network.cpu().eval().requires_grad_(False), best.history


def copied(network: torch.nn.Module) -> dict[str, Tensor]:
    """Copy of a network's weights."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _network(module: LightningModule) -> torch.nn.Module:
    network: torch.nn.Module = module.network  # type: ignore[assignment]
    return network


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Context without Lightning's announcements and its advice on loaders, which an estimator's user cannot act on."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for words in ADVICE:
            warnings.filterwarnings("ignore", message=words)
        for logger in loggers:
            logger.setLevel(logging.INFO if verbose else logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
