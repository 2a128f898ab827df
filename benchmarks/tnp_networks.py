"""Networks of ``benchmarks.tnp``: those of this project, and the original TNP-D from its checkout."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from tabattn.contract.batches import PairBatch
from tabattn.optim import MuonAdamW
from tabattn.pairs import TNPD, TokenOptions

SIZES = {"dim": 64, "heads": 4, "hidden": 128, "layers": 6}
RATE = 5e-4
"""Learning rate of the original."""
MUON = (5e-3, 2e-3)
"""Learning rates of MuonAdamW, those of ``configs/pairs.yaml``."""
WAVES = 16
"""Wavelengths of the distance bias."""
LogDensity = Callable[[PairBatch], Tensor]
"""Log-density of each target of a batch given the context."""
Build = Callable[[], tuple[nn.Module, LogDensity]]


class Entrant(NamedTuple):
    """Network in training.

    Attributes:
        network: The network.
        log_density: Log-density of each target of a batch.
        optimizer: Its optimizer.
        rates: Peak of the learning rate of each group of its parameters.
        seconds: Times of its steps.
    """

    network: nn.Module
    log_density: LogDensity
    optimizer: Optimizer
    rates: list[float]
    seconds: list[float]

    def loss(self, batch: PairBatch) -> Tensor:
        """Training loss: mean negative log-density of the targets."""
        return -self.log_density(batch).mean()


def original(folder: Path, device: torch.device) -> tuple[nn.Module, LogDensity]:
    """Original TNP-D with the sizes of its configuration."""
    sys.path.insert(0, str(folder / "regression"))
    sys.modules["attrdict"] = _module("attrdict", AttrDict=Attributes)
    from models import tnp
    from models.tnpd import TNPD as Original

    tnp.torch = Anywhere(device)
    network = Original(1, 1, SIZES["dim"], 4, SIZES["hidden"], SIZES["heads"], 0.0, SIZES["layers"])

    def log_density(batch: PairBatch) -> Tensor:
        (xc, xt), (yc, yt) = ((part[..., None].tensor_split([batch.context], 1)) for part in (batch.x, batch.y))
        given = Attributes(xc=xc, yc=yc, xt=xt, yt=yt)
        return network(given, reduce_ll=False).tar_ll

    return network, log_density


class Attributes(dict[str, Any]):
    """Replacement of the package attrdict, which present Python versions cannot import."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class Anywhere:
    """Replacement of the original's ``torch`` that creates its masks, there on CUDA, on the device in use.

    Args:
        device: The device in use.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def zeros(self, *sizes: Any, device: str) -> Tensor:
        """Zeros on the device in use."""
        return torch.zeros(*sizes, device=self.device)


def ours(**changes: Any) -> tuple[nn.Module, LogDensity]:
    """TNPD with the original's sizes."""
    network = TNPD(**{**SIZES, "members": 1, **changes})
    network.complete = True

    def log_density(batch: PairBatch) -> Tensor:
        given = network(batch.x, batch.y, batch.member, batch.context)
        return given.log_prob(batch.y[:, batch.context :])

    return network, log_density


def entrants(checkout: Path | None, seed: int, device: torch.device, equal: bool) -> dict[str, Entrant]:
    """All networks of a seed, each with Adam, fused for those of this project.

    Args:
        checkout: Checkout of the original; None = only networks of this project.
        seed: Seed of the weights.
        device: Device of the training.
        equal: Whether to build only networks of the original's size.
    """
    builders: dict[str, tuple[Build, float]] = {
        "tabattn, 6 layers, as the original": (ours, RATE),
    }
    if not equal:
        builders["tabattn, 4 layers, twice the rate"] = partial(ours, layers=4), 2 * RATE
    if checkout is not None:
        builders = {"original, 6 layers": (partial(original, checkout, device), RATE), **builders}
    made = {}
    for name, (build, rate) in builders.items():
        torch.manual_seed(seed)
        network, log_density = build()
        network.to(device)
        fused = None if name.startswith("original") else True
        optimizer = Adam(network.parameters(), rate, fused=fused)
        made[name] = Entrant(network, log_density, optimizer, [rate], [])
    return made


def biased(seed: int, device: torch.device) -> dict[str, Entrant]:
    """Networks of this project of 4 layers with and without distance bias, all with the same initial weights.

    Args:
        seed: Seed of the weights.
        device: Device of the training.
    """
    distances = TokenOptions(distances=WAVES)
    tokens = {
        "MuonAdamW": TokenOptions(),
        "MuonAdamW, distance bias": distances,
        "MuonAdamW, distance bias, relative values": replace(distances, relative=True),
    }
    made = {}
    for name, chosen in {"Adam, twice the rate": TokenOptions(), **tokens}.items():
        torch.manual_seed(seed)
        network, log_density = ours(layers=4, tokens=chosen)
        network.to(device)
        parameters = network.parameters()
        optimizer = MuonAdamW(parameters, *MUON) if name in tokens else Adam(parameters, 2 * RATE, fused=True)
        made[name] = Entrant(network, log_density, optimizer, [group["lr"] for group in optimizer.param_groups], [])
    return made


def _module(name: str, **contents: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module
