"""Files of projections: ours, the original's, and its k-means without unpickling objects."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from tabattn.contract.errors import DataError
from tabattn.storage.original_projections import read_clusters, read_original, write_original
from tabattn.storage.projection_files import (
    LayerProjection,
    read_projections,
    write_projections,
)


def linear(heads: int = 2, head_dim: int = 6, width: int = 4) -> dict[str, Tensor]:
    return {"w": torch.randn(heads, head_dim, width), "b": torch.randn(heads, 1, width)}


def perceptron(heads: int = 2, head_dim: int = 6, hidden: int = 5, width: int = 4) -> dict[str, Tensor]:
    first, second = linear(heads, head_dim, hidden), linear(heads, hidden, width)
    return {"w1": first["w"], "b1": first["b"], "w2": second["w"], "b2": second["b"]}


def layers() -> dict[str, LayerProjection]:
    shared = perceptron()
    return {
        "network.a.mechanism": LayerProjection(linear(), linear(), False, torch.randn(2, 1, 3, 4)),
        "network.b.mechanism": LayerProjection(shared, shared, True),
    }


def assert_same(first: dict[str, LayerProjection], second: dict[str, LayerProjection]) -> None:
    assert list(first) == list(second)
    for one, other in zip(first.values(), second.values(), strict=True):
        assert one.shared == other.shared
        for mine, theirs in ((one.q, other.q), (one.k, other.k)):
            assert set(mine) == set(theirs)
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert (one.centroids is None) == (other.centroids is None)
        assert one.centroids is None or torch.equal(one.centroids, other.centroids)


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    made = layers()
    beside = write_projections(tmp_path / "a.safetensors", made, {"grouping": "kmeans"})
    assert_same(read_projections(tmp_path / "a.safetensors"), made)
    told = json.loads(beside.read_text())
    assert told["facts"] == {"grouping": "kmeans"}
    sizes = {"heads": 2, "head_dim": 6, "width": 4}
    assert told["layers"]["network.a.mechanism"] == {**sizes, "hidden": None, "shared": False, "clusters": 3}
    assert told["layers"]["network.b.mechanism"] == {**sizes, "hidden": 5, "shared": True, "clusters": None}


def test_the_files_of_the_original_there_and_back(tmp_path: Path) -> None:
    made = {
        f"layers.{number}": LayerProjection(linear(), linear(), False, torch.randn(2, 2, 3, 4)) for number in (0, 1)
    }
    write_original(tmp_path / "p.pickle", made, tmp_path / "c.pickle")
    assert isinstance(torch.load(tmp_path / "p.pickle")[1]["q"]["w"], Tensor)
    assert_same(read_original(tmp_path / "p.pickle", [tmp_path / "c.pickle"]), made)
    # Shared maps are written twice, and recognised by their equal values.
    shared = perceptron()
    made = {"layers.0": LayerProjection(shared, shared, True)}
    write_original(tmp_path / "p.pickle", made)
    assert_same(read_original(tmp_path / "p.pickle"), made)


class MultiKmeans:
    """Stands for the original's class, whose objects are in its pickles."""

    def __init__(self, runs: list[KMeans]) -> None:
        self.rounds, self.kmeans = len(runs), runs


MultiKmeans.__module__ = "multi_kmeans"


@pytest.fixture
def clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    import sys
    import types

    module = types.ModuleType("multi_kmeans")
    module.MultiKmeans = MultiKmeans  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "multi_kmeans", module)
    points = np.random.default_rng(0).normal(size=(2, 2, 30, 4)).astype(np.float32)
    heads = [[KMeans(3, n_init=1, random_state=0).fit(run) for run in head] for head in points]
    path = tmp_path / "0l.pickle"
    path.write_bytes(pickle.dumps([MultiKmeans(head) for head in heads], protocol=pickle.HIGHEST_PROTOCOL))
    monkeypatch.delitem(sys.modules, "multi_kmeans")
    return path, np.stack([[run.cluster_centers_ for run in head] for head in heads])


def test_k_means_of_scikit_learn_is_read_as_arrays(clusters: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, centres = clusters
    assert np.array_equal(read_clusters(path).numpy(), centres)
    write_original(tmp_path / "p.pickle", {"layers.0": LayerProjection(linear(), linear())})
    found = read_original(tmp_path / "p.pickle", [path])["layers.0"]
    assert found.centroids is not None
    assert found.centroids.shape == (2, 2, 3, 4)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_pickles_with_code_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "0l.pickle"
    for content in (Evil(), [Evil()], np.random.default_rng):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match="more than arrays of k-means, which is not loaded: it could run code"):
            read_clusters(path)
    for damaged in (b"", b"\x80\x05", pickle.dumps([1]), pickle.dumps([])):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"0l\.pickle holds no k-means of each head"):
            read_clusters(path)
    torch.save([Evil()], tmp_path / "p.pickle")
    with pytest.raises(DataError, match="could run code"):
        read_original(tmp_path / "p.pickle")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "it must be a list of q and k for each layer"),
        ([], "it must be a list of q and k for each layer"),
        ([{"q": linear()}], "it must be a list of q and k for each layer"),
        ([{"q": linear(), "k": {"w": torch.zeros(1)}}], "a map must have the tensors"),
        ([{"q": linear(), "k": perceptron()}], "other shapes"),
        ([{"q": {"w": torch.zeros(2, 6), "b": torch.zeros(2, 1, 4)}, "k": linear()}], "3 dimensions"),
        ([{"q": linear(), "k": linear(width=5)}], "other shapes"),
        ([{"q": {**linear(), "b": torch.zeros(2, 1, 3)}, "k": linear()}], "do not fit"),
        ([{"q": {**linear(), "b": torch.full((2, 1, 4), torch.nan)}, "k": linear()}], "finite"),
    ],
)
def test_other_files_are_refused(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "p.pickle")
    with pytest.raises(DataError, match=said):
        read_original(tmp_path / "p.pickle")


def test_centroids_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_original(tmp_path / "p.pickle", {"layers.0": LayerProjection(linear(), linear())})
    for content, said in (
        ([torch.zeros(2, 1, 3, 5)], "with 2 heads and width 4 or, of blocks, a multiple, got"),
        ([torch.zeros(2, 1, 3, 4)] * 2, "centroids of 2 layers, and projections of 1"),
        ({"a": 1}, "a list of one tensor"),
    ):
        torch.save(content, tmp_path / "c.pickle")
        with pytest.raises(DataError, match=said):
            read_original(tmp_path / "p.pickle", [tmp_path / "c.pickle"])


def test_endings_and_kinds_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kept in a file \.safetensors, got"):
        write_projections(tmp_path / "a.pt", layers())
    with pytest.raises(ValueError, match="there is no file"):
        read_projections(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="damaged or no safetensors"):
        read_projections(tmp_path / "a.safetensors")
    write_projections(tmp_path / "a.safetensors", {})
    with pytest.raises(DataError, match="holds no projections"):
        read_projections(tmp_path / "a.safetensors")


def test_maps_of_both_together_and_none_are_kept(tmp_path: Path) -> None:
    both = linear(head_dim=12)
    made = {
        "a.mechanism": LayerProjection(both, both, "concat", torch.randn(2, 1, 3, 8)),
        "b.mechanism": LayerProjection({}, {}, False, torch.randn(2, 1, 3, 6)),
        "c.mechanism": LayerProjection({}, {}, "concat", torch.randn(2, 1, 3, 12)),
    }
    write_projections(tmp_path / "a.safetensors", made)
    found = read_projections(tmp_path / "a.safetensors")
    assert_same(found, made)
    assert {name: each.sizes["head_dim"] for name, each in found.items()} == dict.fromkeys(made, 6)
    assert [each.sizes["width"] for each in found.values()] == [4, None, None]
    assert [each.block for each in found.values()] == [2, 1, 1]


def test_the_original_s_maps_of_both_together_and_unused_ones(tmp_path: Path) -> None:
    both, unused, centroids = linear(head_dim=12), linear(width=6), torch.randn(2, 1, 3, 6)
    torch.save([{"q": both, "k": both}], tmp_path / "both.pickle")
    (found,) = read_original(tmp_path / "both.pickle", concat=True).values()
    assert (found.shared, found.sizes["head_dim"], found.sizes["width"]) == ("concat", 6, 4)
    write_original(tmp_path / "again.pickle", {"layers.0": found})
    assert torch.equal(torch.load(tmp_path / "again.pickle")[0]["k"]["w"], both["w"])
    torch.save([{"q": both, "k": linear(head_dim=12)}], tmp_path / "two.pickle")
    with pytest.raises(DataError, match="layer 0: the maps of queries and keys are two, not one of both together"):
        read_original(tmp_path / "two.pickle", concat=True)
    torch.save([{"q": linear(head_dim=7), "k": linear(head_dim=7)}], tmp_path / "odd.pickle")
    with pytest.raises(DataError, match="must have an even number of inputs, got 7"):
        read_original(tmp_path / "odd.pickle", concat=True)
    torch.save([{"q": unused, "k": unused}], tmp_path / "unused.pickle")
    torch.save([centroids], tmp_path / "c.pickle")
    (found,) = read_original(tmp_path / "unused.pickle", [tmp_path / "c.pickle"], skip=True).values()
    assert (found.q, found.k, found.sizes["head_dim"], found.sizes["width"]) == ({}, {}, 6, None)
    with pytest.raises(DataError, match="layer 0: nothing is projected, and there are no centroids"):
        read_original(tmp_path / "unused.pickle", skip=True)
    # Its programs read maps that leave tokens as they are.
    write_original(tmp_path / "again.pickle", {"layers.0": found}, tmp_path / "c2.pickle")
    (found,) = read_original(tmp_path / "again.pickle", [tmp_path / "c2.pickle"]).values()
    x = torch.randn(2, 5, 6)
    assert torch.equal(x @ found.q["w"] + found.q["b"], x)
    assert found.centroids is not None
    assert torch.equal(found.centroids, centroids)
