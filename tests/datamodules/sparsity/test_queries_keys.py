"""Datamodule of recorded queries and keys: padding, splits, order and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from datamodules import QueriesKeys
from datamodules.sparsity.batches import padded, split_groups
from datamodules.sparsity.original import write_dump
from datamodules.sparsity.records import Kept, write_records
from tabattn.contract.queries_keys import QueryKeyBatch
from tests.datamodules.sparsity.records import dumpable, items, layer


def many(lengths: int = 12) -> Kept:
    first, second = layer("a.0", 2), layer("a.1", 3, 2)
    return Kept(
        [
            (first, items(first, [(2 + number % 3, 4) for number in range(2 * lengths)])),
            (second, items(second, [(2, 3)] * lengths, masked=True)),
        ]
    )


@pytest.fixture
def path(tmp_path: Path) -> str:
    write_records(tmp_path / "a.h5", many())
    return f"{tmp_path}/a.h5"


def test_items_are_padded() -> None:
    fact = layer()
    found = items(fact, [(2, 3), (4, 1), (3, 3)])
    found[2] = found[2]._replace(mask=torch.ones(3, 3, dtype=torch.bool).tril())
    batch = padded(fact, found)
    assert (batch.q.shape, batch.k.shape) == ((3, 2, 4, 4), (3, 2, 3, 4))
    assert batch.queries.sum(1).tolist() == [2, 4, 3]
    assert batch.keys.sum(1).tolist() == [3, 1, 3]
    for place, item in enumerate(found):
        queries, keys = item.q.shape[1], item.k.shape[1]
        assert torch.equal(batch.q[place, :, :queries], item.q)
        assert not batch.q[place, :, queries:].any()
        seen = torch.zeros(4, 3, dtype=torch.bool)
        seen[:queries, :keys] = True if item.mask is None else item.mask
        assert torch.equal(batch.seen[place, 0], seen)
    assert batch.v is not None
    assert torch.equal(batch.v[0], found[0].v)  # type: ignore[arg-type]
    assert padded(fact, [found[0], found[1]._replace(v=None)]).v is None
    assert padded(fact, []).q.shape == (0, 2, 0, 4)
    assert QueryKeyBatch((batch,)).unscored().layers[0].seen.shape == (0, 1, 4, 3)


def test_groups_are_on_one_side() -> None:
    group = np.repeat(np.arange(10), 3)
    part = split_groups(group, (0.2, 0.1), 0)
    assert np.bincount(part).tolist() == [21, 6, 3]
    assert all(len(set(part[group == number])) == 1 for number in range(10))
    assert not np.array_equal(part, split_groups(group, (0.2, 0.1), 1))
    # One group: its items are split.
    assert np.bincount(split_groups(np.zeros(10, int), (0.1, 0.1), 0)).tolist() == [8, 1, 1]
    with pytest.raises(ValueError, match="items must be at least 3 to train, validate and test on, got 2"):
        split_groups(np.zeros(2, int), (0.1, 0.1), 0)


def keys_of(batch: QueryKeyBatch, number: int) -> list[float]:
    return batch.layers[number].k[:, 0, 0, 0].tolist()


def test_parts_are_disjoint_and_complete(path: str) -> None:
    data = QueriesKeys(path, 4, val=0.2, test=0.2)
    data.setup("fit")
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    for number, count in enumerate((24, 12)):
        parts = [[key for batch in loader for key in keys_of(batch, number)] for loader in loaders]
        assert len({key for part in parts for key in part}) == count
        assert len(set(parts[1]) | set(parts[2])) == len(parts[1] + parts[2])
        assert not set(parts[0]) & set(parts[1] + parts[2])
    batch = next(iter(loaders[1]))
    assert [each.q.shape[1] for each in batch.layers] == [2, 3]
    assert batch.layers[0].mask is None
    assert batch.layers[1].mask is not None
    assert [each.q.shape[0] for each in data.clustered.layers] == [len(each) for each in data.parts["train"]]


def test_the_stream_shows_every_item_and_is_set_by_the_seed(path: str) -> None:
    data = QueriesKeys(path, 4, seed=3)
    stream = data.train_dataloader().dataset
    count = len(data.parts["train"][0])
    first = [key for index in range(-(-count // 4)) for key in keys_of(stream[index], 0)]
    second = [key for index in range(-(-count // 4), 2 * -(-count // 4)) for key in keys_of(stream[index], 0)]
    assert len(set(first)) == count
    assert first != second
    assert sorted(first) == sorted(second)
    assert keys_of(stream[7], 1) == keys_of(QueriesKeys(path, 4, seed=3).train_dataloader().dataset[7], 1)
    assert keys_of(stream[0], 0) != keys_of(QueriesKeys(path, 4, seed=4).train_dataloader().dataset[0], 0)


def test_a_dump_is_read(tmp_path: Path) -> None:
    write_dump(tmp_path / "a.pt", dumpable())
    data = QueriesKeys(f"{tmp_path}/a.pt", layers="1$", max_size=4)
    assert [each.path for each in data.layers] == ["layers.1"]
    assert sum(len(items[0]) for items in data.parts.values()) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": "b"}, r"layers='b' matches no layer of .*a\.h5; there are: a\.0, a\.1"),
        ({"rescale": True}, "rescale is for dumps"),
        ({"path": "none.h5"}, "none.h5 is not there"),
        ({"val": 0.5, "test": 0.49, "max_size": 4}, "a.0: items must be at least 5"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], said: str, path: str) -> None:
    with pytest.raises(MisconfigurationException, match=said):
        QueriesKeys(**{"path": path, **options}).setup("fit")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"val": 0.0}, "val and test must be above 0, and below 1 together, got 0.0 and 0.1"),
        ({"val": 0.5, "test": 0.5}, "below 1 together"),
        ({"max_size": 2}, "max_size must be at least 3, got 2"),
        ({"clustered": 0}, "clustered must be at least 1, got 0"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        QueriesKeys(**options)
