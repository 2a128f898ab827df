"""Dumps of Sparsefinder's own programs: round trips, and what they cannot hold."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.sparsity.original import read_dump, write_dump
from datamodules.sparsity.records import Item, Kept
from tabattn.contract.errors import DataError
from tests.datamodules.sparsity.records import dumpable, items, kept, layer


def dump(samples: int = 4) -> dict[str, Any]:
    lengths = list(range(3, 3 + samples))
    made = {name: [torch.randn(2, 3, length, 4) for length in lengths] for name in "qk"}
    return {"length_src": torch.tensor(lengths).float(), **made}


def test_a_dump_is_read(tmp_path: Path) -> None:
    made = dump()
    torch.save(made, tmp_path / "a_enc-attn.pt")
    read = read_dump(tmp_path / "a_enc-attn.pt")
    assert [each.layer for each in read.layers] == [layer(f"layers.{number}", 3) for number in range(2)]
    assert read.layers[0].keys.tolist() == [3, 4, 5, 6]
    assert torch.equal(read.item(1, 2).q, made["q"][2][1])
    assert torch.equal(read_dump(tmp_path / "a_enc-attn.pt", rescale=True).item(1, 2).q, 2 * made["q"][2][1])


def test_what_is_written_is_what_its_programs_read(tmp_path: Path) -> None:
    records = dumpable()
    assert not write_dump(tmp_path / "a.pt", records)
    found = torch.load(tmp_path / "a.pt")
    assert isinstance(found["length_src"], torch.Tensor)
    assert found["length_src"].tolist() == [3, 4, 5, 6, 7]
    assert "length_trg" not in found
    assert [each.shape for each in found["q"]] == [(2, 2, length, 4) for length in range(3, 8)]
    again = read_dump(tmp_path / "a.pt")
    for number in range(2):
        for each in range(5):
            assert torch.equal(again.item(number, each).q, records.item(number, each).q)
            assert torch.equal(again.item(number, each).k, records.item(number, each).k)


def test_the_scale_is_multiplied_into_the_queries(tmp_path: Path) -> None:
    records = dumpable(layers=1)
    fact, found = records.found[0]
    write_dump(tmp_path / "a.pt", Kept([(fact._replace(scale=1.0), found)]))
    again = read_dump(tmp_path / "a.pt")
    assert torch.allclose(again.item(0, 1).q * again.layers[0].layer.scale, found[1].q)


def test_lengths_of_queries_are_told_where_they_differ(tmp_path: Path) -> None:
    fact = layer()
    write_dump(tmp_path / "a.pt", Kept([(fact, items(fact, [(3, 5), (4, 2)]))]))
    found = torch.load(tmp_path / "a.pt")
    assert (found["length_trg"].tolist(), found["length_src"].tolist()) == ([3.0, 4.0], [5.0, 2.0])
    assert read_dump(tmp_path / "a.pt").layers[0].queries.tolist() == [3, 4]


def test_causal_masks_are_said(tmp_path: Path) -> None:
    fact = layer()
    found = [item._replace(mask=torch.ones(3, 3, dtype=torch.bool).tril()) for item in items(fact, [(3, 3), (3, 3)])]
    assert write_dump(tmp_path / "a.pt", Kept([(fact, found)]))
    for changed in ([found[0], found[1]._replace(mask=None)], [found[0]._replace(mask=~found[0].mask)]):
        with pytest.raises(ValueError, match="cannot hold masks"):
            write_dump(tmp_path / "b.pt", Kept([(fact, changed)]))


def altered(**changes: Any) -> Kept:
    fact, found = dumpable(layers=1).found[0]
    other = fact._replace(path="b", **changes)
    parts = [Item(item.q[: other.heads], item.k[: other.heads], group=item.group) for item in found]
    return Kept([(fact, found), (other, parts)])


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (altered(alpha=(1.5, 1.25)), r"cannot hold b: alpha must be 1\.5, got 1\.25, 1\.5"),
        (altered(heads=1, alpha=(1.5,)), "cannot hold b: heads and head_dim are 1 and 4, those of layers.0 others"),
        (kept(), "cannot hold blocks.1.cells: heads"),
        (Kept([dumpable(5, 1).found[0], dumpable(4, 1).found[0]]), "its lengths are not those of layers.0"),
    ],
)
def test_what_a_dump_cannot_hold_is_refused(records: Kept, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        write_dump(tmp_path / "a.pt", records)
    assert not list(tmp_path.iterdir())


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"q": Evil()}, "could run code"),
        ({"q": []}, "lists of one tensor"),
        ({"q": [torch.zeros(2, 3, 3)] * 4}, "lists of one tensor"),
        ({"q": [torch.zeros(2, 1, length, 4) for length in range(3, 7)]}, "the same layers, heads and head_dim"),
        ({"length_src": torch.ones(4)}, "length_src is not the number of keys"),
    ],
)
def test_other_files_are_refused(changes: dict[str, Any], said: str, tmp_path: Path, capfd: Any) -> None:
    torch.save({**dump(), **changes}, tmp_path / "a.pt")
    with pytest.raises(DataError, match=said):
        read_dump(tmp_path / "a.pt")
    assert capfd.readouterr().out == ""


def test_a_file_without_queries_is_refused(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "a.pt")
    with pytest.raises(DataError, match="it must hold q, k and length_src"):
        read_dump(tmp_path / "a.pt")
