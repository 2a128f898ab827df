"""The seed network has one attention, whichever name it is given by."""

from functools import partial

import pytest

from tabattn.attention import Softmax, TopK
from tabattn.models.pairs_seed import SeedNetwork


def test_one_attention_goes_by_either_name() -> None:
    default, other = partial(Softmax), partial(TopK, keep=2)
    network = SeedNetwork(16, 2, 16, attention=default, target_attention=other)
    assert isinstance(network.attention.mechanism, TopK)
    with pytest.raises(ValueError, match="one attention: give attention or target_attention, not both"):
        SeedNetwork(16, 2, 16, attention=other, target_attention=default)


def test_there_is_nothing_to_normalise() -> None:
    with pytest.raises(ValueError, match="normalises nothing: norm must be after, got 'before'"):
        SeedNetwork(16, 2, 16, norm="before")
