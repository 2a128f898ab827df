"""Training of the network of ``SequenceInferrer``, by the task of pairs."""

from functools import partial
from typing import Any

import torch

from tabattn.optim import WarmupCosine
from tabattn.optim.fitting import BestAverage, quiet, run_training, settled
from tabattn.pairs import NETWORKS
from tabattn.pairs.estimator.arguments import Training
from tabattn.pairs.estimator.tasks import ArrayPairs
from tabattn.pairs.network import PairNetwork
from tabattn.pairs.task import PairInference
from tabattn.pairs.weights import Described, build
from tabattn.storage.hyperparameters import factory, plain


@settled()
def train(
    training: Training, data: ArrayPairs, start: Described | None, seed: int
) -> tuple[PairNetwork, dict[str, Any], list[float]]:
    """Train a network; no global random state is touched.

    Args:
        training: How.
        data: The tasks.
        start: Network to start from; None = a random one, of the settings.
        seed: Seed of the initial weights and of dropout.

    Returns:
        The network with the best weights, on the CPU, its class and arguments in plain values, and the log-likelihood
        of each validation.

    Raises:
        DivergenceError: Loss or weights were not finite.
        KeyboardInterrupt: The user interrupts it.
    """
    settings = training.settings
    rounds = max(1, round(training.steps / settings.validate_every))
    every = max(1, training.steps // rounds)
    data.steps_per_epoch = every
    best = BestAverage(settings.decay, training.patience, "val/ll", larger=True)
    device = training.device
    with quiet(training.verbose), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        make: Any = factory(settings.network, "network", NETWORKS, PairNetwork)
        network = partial(make, members=data.members)
        task = PairInference(network, training.attention, scheduled_sampling=settings.scheduled_sampling)
        described = plain(partial(network, attention=training.attention))
        if start is not None:
            if start.network.members < data.members:
                raise ValueError(f"the weights tell {start.network.members} sequences apart, X has {data.members}")
            described = start.plain
            task.network = build(start.plain, start.network.state_dict(), "the start").train().requires_grad_(True)
        task.use_optimizer(settings.optimizer, WarmupCosine)
        scored = data.val_dataloader() if "val" in data.numbers else None
        task.network.scale(data.scaling)
        task.scaled = True
        run_training(
            task,
            (data.train_dataloader(), scored),
            best,
            steps=rounds * every,
            clip=settings.clip,
            device=device,
            verbose=training.verbose,
            seconds=training.seconds,
        )
    return task.network.cpu().eval().requires_grad_(False), described, best.history
