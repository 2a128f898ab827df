"""Tiny networks in place of the packaged ones."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tabattn.prior import weights
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import PriorOptions
from tests.prior.estimator.tiny import MakeTable, tiny_network


@pytest.fixture
def network() -> PriorNetwork:
    return tiny_network()


@pytest.fixture(autouse=True)
def packaged(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    numbers = tiny_network(classes=12, options=PriorOptions(targets="numbers"))
    for name, network in (("prior", tiny_network()), ("regression", numbers)):
        tensors, arguments = weights.described(network)
        weights.write(folder / f"{name}.safetensors", tensors, {"network": arguments})
    monkeypatch.setattr(weights, "packaged_path", lambda name: folder / f"{name}.safetensors")
    return folder / "prior.safetensors"


@pytest.fixture
def table() -> MakeTable:
    def make(rows: int = 20, features: int = 4, classes: int = 3) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        random = np.random.default_rng(0)
        return random.standard_normal((rows, features)), np.arange(rows) % classes

    return make
