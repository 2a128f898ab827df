"""Memory by length, counted in bytes."""

import pytest
import torch
from torch import Tensor

from tabattn.attention import MECHANISMS, Entmax, Mechanism, TopK
from tabattn.compare.clocks import peak_bytes
from tests.attention.cases import HEAD_DIM, HEADS

LINEAR = {
    **{name: MECHANISMS[name] for name in ("Local", "Pooling", "Inducing", "Linear", "Nystrom")},
    "TopK": lambda *size: TopK(*size, block=16),
    "Entmax": lambda *size: Entmax(*size, block=16),
    "Entmax, learned": lambda *size: Entmax(*size, block=16, learn_alpha=True),
}


def saved_bytes(mechanism: Mechanism, length: int, mask: Tensor | None = None) -> int:
    """Bytes of all storages kept for the backward pass."""
    storages: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    q, k, v = (torch.randn(1, HEADS, length, HEAD_DIM, requires_grad=True) for _ in range(3))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        out = mechanism(q, k, v, mask)
    assert out.requires_grad
    return sum(storages.values())


def growth(make, masked: bool) -> float:
    short, long = (
        saved_bytes(make(HEADS, HEAD_DIM), length, torch.arange(length) > 3 if masked else None)
        for length in (512, 1024)
    )
    return long / short


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("masked", [False, True])
def test_saved_for_backward_is_linear_in_length(name, masked):
    assert growth(LINEAR[name], masked) < 2.1


@pytest.mark.parametrize("name", LINEAR)
def test_peak_is_linear_in_length_with_a_key_mask(name):
    def peak(length: int) -> int:
        mechanism = LINEAR[name](HEADS, HEAD_DIM)
        q, k, v = (torch.randn(1, HEADS, length, HEAD_DIM, requires_grad=True) for _ in range(3))
        mask = torch.arange(length) > 3
        return peak_bytes(lambda: mechanism(q, k, v, mask).sum().backward(), torch.device("cpu"))

    assert peak(1024) / peak(512) < 2.1


@pytest.mark.parametrize("name", ["Scratch", "Sparse"])
def test_quadratic_growth_is_detected(name):
    assert growth(MECHANISMS[name], masked=False) > 3.5
