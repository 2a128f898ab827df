"""Counter-based random numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.zoo.streams import below, bits, uniform


def test_numbers_are_those_of_splitmix() -> None:
    """Chained SplitMix64: each counter is added before a round; in Python's whole numbers."""

    def expected(*counters: int) -> int:
        state, most = 0, 2**64 - 1
        for counter in counters:
            state = (state + counter + 0x9E3779B97F4A7C15) & most
            state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & most
            state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & most
            state ^= state >> 31
        return state

    for counters in ((0,), (1, 2), (7, 0, 123456789), (2**40, 3)):
        assert int(bits(*counters)) % 2**64 == expected(*counters)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 50))
def test_a_number_is_a_function_of_its_counters(seed: int, bound: int) -> None:
    rows, columns = torch.arange(5)[:, None], torch.arange(7)
    many = below(bound, seed, rows, columns)
    assert many.shape == (5, 7)
    assert 0 <= many.min() <= many.max() < bound
    assert many[3, 4] == below(bound, seed, 3, 4)
    assert uniform(seed, rows, columns)[2, 6] == uniform(seed, 2, 6)


def test_numbers_are_uniform_and_unrelated() -> None:
    many = uniform(5, torch.arange(200)[:, None], torch.arange(500))
    assert 0 <= many.min() < 1e-3
    assert 1 - 1e-3 < many.max() < 1
    assert many.mean() == pytest.approx(0.5, abs=5e-3)
    assert many.var() == pytest.approx(1 / 12, abs=2e-3)
    assert torch.corrcoef(torch.stack([many[:-1].flatten(), many[1:].flatten()]))[0, 1].abs() < 0.02
    counts = below(torch.tensor([3, 7])[:, None], 1, torch.arange(2)[:, None], torch.arange(7000))
    assert (torch.bincount(counts[1]) - 1000).abs().max() < 150
    assert torch.bincount(counts[0]).tolist() == pytest.approx([7000 / 3] * 3, abs=200)
