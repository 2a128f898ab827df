"""Tiny network in place of the packaged one."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tabattn.prior import weights
from tabattn.prior.network import PriorNetwork
from tests.prior.estimator.tiny import MakeTable, tiny_network


@pytest.fixture
def network() -> PriorNetwork:
    return tiny_network()


@pytest.fixture(autouse=True)
def packaged(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / "prior.safetensors"
    tensors, arguments = weights.described(tiny_network())
    weights.write(path, tensors, {"network": arguments})
    monkeypatch.setattr(weights, "packaged_path", lambda name: path)
    return path


@pytest.fixture
def table() -> MakeTable:
    def make(rows: int = 20, features: int = 4, classes: int = 3) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        random = np.random.default_rng(0)
        return random.standard_normal((rows, features)), np.arange(rows) % classes

    return make
