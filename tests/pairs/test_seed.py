"""The seed network: one attention, whichever name it is given by, and labels that it never reads of known points."""

import inspect
from functools import partial

import pytest

from tabattn.attention import Softmax, TopK
from tabattn.pairs.seed import SeedNetwork
from tabattn.tasks import PairInference


def test_one_attention_goes_by_either_name() -> None:
    default, other = partial(Softmax), partial(TopK, keep=2)
    network = SeedNetwork(16, 2, 16, attention=default, target_attention=other)
    assert isinstance(network.attention.mechanism, TopK)
    with pytest.raises(ValueError, match="one attention: give attention or target_attention, not both"):
        SeedNetwork(16, 2, 16, attention=other, target_attention=default)


def test_there_is_nothing_to_normalise() -> None:
    with pytest.raises(ValueError, match="normalises nothing: norm must be after, got 'before'"):
        SeedNetwork(16, 2, 16, norm="before")


@pytest.mark.parametrize("residual", ["none", "nearest"])
def test_labels_cannot_be_hidden_twice(residual: str) -> None:
    with pytest.raises(ValueError, match=r"member_embed must be one_hot or learned for seed, .*, got 'hidden'"):
        SeedNetwork(16, 2, 16, member_embed="hidden", residual=residual)


def test_its_sizes_are_those_of_the_task() -> None:
    own, task = (inspect.signature(cls).parameters for cls in (SeedNetwork, PairInference))
    assert all(argument.default == task[name].default for name, argument in own.items())
