"""Splits: no part shares a run, a task or an architecture with another."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.zoo.splits import split_networks, together
from datamodules.zoo.zoo_file import Zoo


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 60), values=st.tuples(*[st.integers(1, 40)] * 3), seed=st.integers(0, 999))
def test_no_part_shares_what_it_should_not(count: int, values: tuple[int, int, int], seed: int) -> None:
    source = np.random.default_rng(seed)
    names = "run", "task", "arch"
    models = {name: source.integers(0, most, count) for name, most in zip(names, values, strict=True)}
    splits = split_networks(models, seed)
    shared = {"network": ("run",), "task": ("run", "task"), "architecture": ("run", "arch")}
    assert set(splits) == set(shared)
    for name, part in splits.items():
        assert part.shape == (count,)
        for column_name in shared[name]:
            column = models[column_name]
            assert all(len(set(part[column == value])) == 1 for value in set(column))
        groups = together(*(models[each] for each in (*shared[name], "run")[:2]))
        assert len(set(groups)) < 3 or set(part) == {0, 1, 2}


def test_parts_have_their_shares() -> None:
    run = np.repeat(np.arange(1000), 4)
    models = {"run": run, "task": run % 50, "arch": run % 200}
    for part in split_networks(models, 0).values():
        assert np.abs(np.bincount(part) / len(run) - (0.8, 0.1, 0.1)).max() < 0.02
    again = split_networks(models, 0)
    other = split_networks(models, 1)
    assert all(np.array_equal(part, again[name]) for name, part in split_networks(models, 0).items())
    assert not np.array_equal(again["network"], other["network"])


def test_a_zoo_is_split_in_all_ways(zoo: Zoo) -> None:
    for name, column in (("network", "run"), ("task", "task"), ("architecture", "arch")):
        part = zoo.splits[name]
        assert set(part.tolist()) == {0, 1, 2}
        pairs = set(zip(zoo.models[column].tolist(), part.tolist(), strict=True))
        assert len(pairs) == len(set(zoo.models[column].tolist()))
