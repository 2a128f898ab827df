"""Seed network: one attention under either name, blind to the members of context points."""

from functools import partial
from typing import Literal

import pytest

from tabattn.attention import Softmax, TopK
from tabattn.pairs import SeedNetwork, TokenOptions


def test_one_attention_goes_by_either_name() -> None:
    default, other = partial(Softmax), partial(TopK, keep=2)
    network = SeedNetwork(default, other)
    assert isinstance(network.attention.mechanism, TopK)
    with pytest.raises(ValueError, match="one attention: give attention or target_attention, not both"):
        SeedNetwork(other, default)


@pytest.mark.parametrize("residual", ["none", "nearest"])
def test_labels_cannot_be_hidden_twice(residual: Literal["none", "nearest"]) -> None:
    with pytest.raises(ValueError, match=r"member_embed must be one_hot or learned for SeedNetwork, .*, got 'hidden'"):
        SeedNetwork(tokens=TokenOptions("hidden"), residual=residual)
