"""GELU: that of PyTorch, without oneDNN on a CPU."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tabattn.nn.block import table_block
from tabattn.nn.gelu import GELU

SOURCES = Path(__file__).parents[2]


class Given(TorchDispatchMode):
    """Records which tensors the operator and its derivative are given in their natural order of dimensions."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.natural: dict[str, list[bool]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in ("gelu.default", "gelu_backward.default"):
            self.natural.setdefault(func.__name__, []).extend(
                part.is_contiguous() for part in args if isinstance(part, torch.Tensor)
            )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", [(3,), (0, 4), (1, 5), (2, 1), (2, 3, 5), (2, 1, 3, 4)])
def test_it_is_that_of_pytorch(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ours, theirs = GELU()(x), nn.functional.gelu(x)
    torch.testing.assert_close(ours, theirs)
    assert ours.is_contiguous()
    upstream = torch.randn_like(x)
    torch.testing.assert_close(
        torch.autograd.grad(ours, x, upstream), torch.autograd.grad(theirs, x, upstream), check_stride=False
    )


def test_onednn_is_given_no_tensor() -> None:
    """PyTorch gives it those that lie in their natural order, and it keeps an entry for each of their shapes."""
    with Given() as given:
        table_block(8, 2, 16)(torch.randn(3, 5, 4, 8)).square().sum().backward()
    assert given.natural == {"gelu.default": [False], "gelu_backward.default": [False, False]}


def test_no_network_uses_another() -> None:
    own = {"tabattn/nn/gelu.py", "tabattn/contract/activations.py", "tabattn/contract/modules.py"}
    for path in (SOURCES / "tabattn").rglob("*.py"):
        if (name := str(path.relative_to(SOURCES))) not in own:
            assert not re.search(r"nn\.GELU|F\.gelu|functional\.gelu", path.read_text()), name
