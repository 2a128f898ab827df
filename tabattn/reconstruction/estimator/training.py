"""Training of an estimator's network by Lightning: moving average of the weights, early stopping, best weights."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.counter import CounterLoader
from tabattn.attention import AttentionFactory
from tabattn.contract.cells import CellBatch, Column
from tabattn.optim import WarmupCosine
from tabattn.optim.fitting import BestAverage, quiet, run_training
from tabattn.reconstruction.cell_network import CellNetwork
from tabattn.reconstruction.estimator.settings import TrainingSettings
from tabattn.reconstruction.task import TableReconstruction


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
    with quiet(training.verbose), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        plain = [column.plain() for column in columns]
        task = TableReconstruction(
            settings.network, training.attention, training.attribute_attention, settings.loss, columns=plain
        )
        task.use_optimizer(settings.optimizer, WarmupCosine)
        rows, truth = known
        task.prepare(truth, row=rows)
        scored = None if held_out is None else DataLoader(held_out, batch_size=None)
        run_training(
            task,
            (CounterLoader(batches, every), scored),
            best,
            steps=rounds * every,
            clip=settings.clip,
            device=device,
            verbose=training.verbose,
        )
    return task.network.cpu().eval().requires_grad_(False), best.history
