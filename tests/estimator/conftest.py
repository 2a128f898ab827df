"""A tiny network in place of the packaged one, so that the estimator can be tested without trained weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tabattn import weights
from tabattn.models.prior import PriorNetwork
from tests.estimator.tiny import tiny_network


@pytest.fixture
def network() -> PriorNetwork:
    return tiny_network()


@pytest.fixture(autouse=True)
def packaged(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / "prior.safetensors"
    tensors, arguments = weights.described(tiny_network())
    weights.write(path, tensors, {"network": arguments})
    monkeypatch.setattr(weights, "packaged_path", lambda: path)
    return path


@pytest.fixture
def table() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    def make(rows: int = 20, features: int = 4, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(0)
        return random.standard_normal((rows, features)), np.arange(rows) % classes

    return make
