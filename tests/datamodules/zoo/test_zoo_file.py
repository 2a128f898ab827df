"""Zoo files: what is written is read, and a damaged file is refused in one line."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.zoo.graph_checks import graph_fault
from datamodules.zoo.zoo_file import Zoo, read_zoo, write_zoo
from tabattn.contract.errors import DataError
from tabattn.contract.graphs import Population
from tabattn.storage.checksum import seal
from tests.zoo.networks import graph


def test_what_is_written_is_read(zoo: Zoo, tmp_path: Path) -> None:
    write_zoo(tmp_path / "a.h5", zoo)
    again = read_zoo(tmp_path / "a.h5")
    for field in fields(Population):
        one, other = getattr(zoo.population, field.name), getattr(again.population, field.name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    assert all(np.array_equal(values, again.models[name], equal_nan=True) for name, values in zoo.models.items())
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(zoo.tasks, again.tasks, strict=True))
    assert all(np.array_equal(values, again.splits[name]) for name, values in zoo.splits.items())
    assert (again.architectures, again.facts, again.names) == (zoo.architectures, zoo.facts, zoo.names)
    assert np.array_equal(again.meta, zoo.meta, equal_nan=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["models/constant"].dtype == np.uint8


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_short_is_refused(zoo_path: Path, tmp_path: Path, share: float) -> None:
    whole = zoo_path.read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"a\.h5") as refused:
        read_zoo(tmp_path / "a.h5")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("place", [9, 0.2, 0.5, 0.8, 0.99])
def test_a_flipped_bit_is_noticed(zoo_path: Path, tmp_path: Path, place: float) -> None:
    raw = bytearray(zoo_path.read_bytes())
    raw[int(place if place >= 1 else place * len(raw))] ^= 4
    (tmp_path / "a.h5").write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.h5"):
        read_zoo(tmp_path / "a.h5")


def put(group: str, change: Callable[[Any], Any]) -> Callable[[h5py.File], None]:
    """Replace an array of a file."""

    def edit(file: h5py.File) -> None:
        values = file[group][()]
        del file[group]
        file[group] = change(values)

    return edit


def attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file.attrs[name] = value

    return edit


def at(index: int, value: int) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values[index] = value
        return values

    return change


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda file: file.attrs.pop("format"), "it is no zoo of networks"),
        (attribute("version", 9), "it has version 9, this package reads version 1"),
        (attribute("activations", '["relu"]'), "it numbers activation functions otherwise"),
        (lambda file: file.pop("models/run"), "models/run is a link to something else|run"),
        (put("models/task", lambda values: values[:-1]), "models/task has 239 entries for 240 networks"),
        (put("models/task", at(3, 99)), "models/task is not within 0 to 7"),
        (put("models/arch", at(3, 999)), "models/arch is not within 0 to "),
        (put("models/arch", at(3, -1)), "models/arch is not within 0 to "),
        (put("models/lr", lambda values: values.astype(int)), "models/lr is of the type int64"),
        (put("splits/task", lambda values: values[1:]), "splits/task has 239 entries"),
        (put("tasks/columns", at(0, 50)), "tasks/columns is not within 1 to 16"),
        (put("tasks/y", lambda values: values[:-1]), "its tasks are of several numbers"),
        (put("tasks/part", lambda values: values[:, 1:]), "rows of its tasks are of several numbers"),
        (put("meta/values", lambda values: values[:, 1:]), "meta/values has the shape"),
        (put("graph/vertex_pointer", at(1, 0)), "graph/vertex_pointer does not rise"),
        (put("graph/edge_pointer", at(1, 3)), "graph/edge_pointer is not where the edges"),
        (put("graph/degree", at(0, 1)), "graph/degree does not add up"),
        (put("graph/level", at(0, 1)), "graph/level does not begin at 0"),
        (put("graph/type", at(-1, 200)), "graph/type has codes of at least 10"),
        (put("graph/flags", at(-1, 200)), "graph/flags has bits beyond 7"),
        (put("graph/flags", at(0, 1)), "inputs have weights"),
        (put("graph/source", at(-1, 9999)), "graph/source has parents beyond"),
        (put("graph/source", at(0, 1)), "graph/source is not sorted"),
    ],
)
def test_what_is_no_zoo_is_refused(
    zoo_path: Path, tmp_path: Path, edit: Callable[[h5py.File], None], message: str
) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(zoo_path.read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)
    seal(path)
    with pytest.raises(DataError, match=message) as refused:
        read_zoo(path)
    assert str(refused.value).startswith(f"{path} cannot be")


def test_a_file_without_its_checksum_is_refused(zoo_path: Path, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(zoo_path.read_bytes()[:-81])
    with pytest.raises(DataError, match="its checksum is gone"):
        read_zoo(tmp_path / "a.h5")


def test_a_file_that_is_not_there_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*: python -m datamodules\.zoo --out .*a\.h5 makes it"):
        read_zoo(tmp_path / "a.h5")


def constructible(population: Population) -> bool:
    """Whether each network is a graph, by the graph's own checks."""
    try:
        for number in range(len(population)):
            population[number]
    except ValueError:
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    name=st.sampled_from(["type", "level", "flags", "bias", "source", "weight"]),
    place=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 9),
)
def test_a_population_is_checked_as_each_graph_is(seed: int, name: str, place: float, value: int) -> None:
    source = np.random.default_rng(seed)
    population = Population.of([graph(source) for _ in range(3)])
    assert graph_fault(population) == ""
    values = getattr(population, name).copy()
    values[int(place * len(values))] = value
    changed = replace(population, **{name: values})
    assert (graph_fault(changed) == "") == constructible(changed)
