"""Attention factories by name, and refused ones."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from tabattn.attention import MECHANISMS, Entmax, Local, Softmax
from tabattn.nn.multihead import MultiheadAttention
from tabattn.nn.rows import RowAttention
from tabattn.tasks import PriorClassification


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_mechanism_by_its_name(name: str) -> None:
    assert type(MultiheadAttention(32, 4, name).mechanism) is MECHANISMS[name]


def test_other_factories_still_serve() -> None:
    assert MultiheadAttention(32, 4, partial(Local, window=3)).mechanism.window == 3
    assert isinstance(MultiheadAttention(32, 4, lambda heads, width: Entmax(heads, width)).mechanism, Entmax)
    outside = RowAttention(32, 4, Local, "Entmax").outside  # type: ignore[arg-type]
    assert isinstance(outside, Entmax)


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"attention must be one of Softmax, .* got 'softmx' .did you mean Softmax"):
        MultiheadAttention(32, 4, "softmx")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (3, "int"),
        (None, "NoneType"),
        ({"class_path": "Local"}, "dict"),
        (nn.Linear, "Linear"),
        (partial(nn.Linear, bias=False), "Linear"),
        (Softmax(4, 8), "an object Softmax"),
    ],
)
def test_what_makes_no_mechanism_is_refused(given: Any, shown: str) -> None:
    with pytest.raises(ValueError, match=f"attention must be a mechanism's class, .* or a name, got {shown}$"):
        MultiheadAttention(32, 4, given)


@pytest.mark.parametrize("given", [3, None, {"class_path": "Local"}, nn.Linear, torch.zeros(1)])
@pytest.mark.parametrize("site", ["attention", "feature_attention"])
def test_a_task_refuses_it_too(given: Any, site: str) -> None:
    with pytest.raises(ValueError, match=f"{site} must be"):
        PriorClassification(**{site: given})
