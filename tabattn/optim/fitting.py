"""Fitting of a network inside an estimator: early stopping on a moving average, one training at a time, no messages."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tabattn.contract.errors import DivergenceError
from tabattn.optim.divergence import DivergenceGuard
from tabattn.storage.described import plain_defaults

ADVICE = (
    "The '.*_dataloader' does not have many workers",
    "The number of training batches",
    "GPU available",
    "You defined a `validation_step` but have no `val_dataloader`",
)
"""Beginnings of Lightning's warnings that an estimator's user cannot act on."""

ALONE = threading.RLock()
"""Lock of trainings: they seed global random numbers, which another thread would draw from."""


@contextmanager
def settled() -> Iterator[None]:
    """Context of one training at a time, whatever modes and defaults of torch the caller has set."""
    with ALONE, plain_defaults(), torch.inference_mode(False), torch.enable_grad():
        yield


class BestAverage(Callback):
    """Early stopping on the moving average of the weights, whose best values are kept.

    Args:
        decay: Decay of the moving average; 0 = the weights themselves.
        patience: Validations without improvement after which the training stops.
        monitor: Validation metric.
        larger: Whether larger values of it are better.
    """

    def __init__(self, decay: float, patience: int, monitor: str = "val/loss", larger: bool = False) -> None:
        self.decay = decay
        self.patience = patience
        self.monitor = monitor
        self.larger = larger
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
        score = float(trainer.callback_metrics[self.monitor])
        self.history.append(score)
        loss = -score if self.larger else score
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


def run_training(
    task: LightningModule,
    loaders: Any,
    best: BestAverage,
    *,
    steps: int,
    clip: float,
    device: torch.device,
    verbose: bool,
    seconds: float | None = None,
) -> None:
    """Train a task with early stopping, without files.

    Args:
        task: The task, with its optimizer.
        loaders: Training and validation loaders, or a datamodule; no validation loader = all steps are taken.
        best: The early stopping.
        steps: Most steps.
        clip: Largest norm of a gradient.
        device: Device.
        verbose: Whether to show a progress bar.
        seconds: Time budget; None = none.

    Raises:
        DivergenceError: Loss or weights were not finite.
        KeyboardInterrupt: The user interrupts it.
    """
    trainer = Trainer(
        accelerator=device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        max_steps=steps,
        max_time=None if seconds is None else timedelta(seconds=seconds),
        gradient_clip_val=clip,
        callbacks=[DivergenceGuard(), best],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=verbose,
        num_sanity_val_steps=0,
        inference_mode=False,
    )
    try:
        trainer.fit(task, *loaders)
    except DivergenceError as ex:
        raise DivergenceError(f"{str(ex).partition(';')[0]}: a lower learning rate in settings may help") from ex
    except SystemExit as ex:  # Lightning's answer to an interrupt, which would end the user's session.
        raise KeyboardInterrupt from ex


def copied(network: nn.Module) -> dict[str, Tensor]:
    """Copy of a network's weights."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _network(module: LightningModule) -> nn.Module:
    network: nn.Module = module.network  # type: ignore[assignment]
    return network


@contextmanager
def quiet(verbose: bool) -> Iterator[None]:
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
