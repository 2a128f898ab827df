"""Learned projections in a network: what is filled, by which paths, and what does not fit."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tabattn.attention import Entmax, Sparsefinder
from tabattn.contract.errors import DataError
from tabattn.contract.queries_keys import Layer
from tabattn.sparsity.options import ClusterOptions, GraphOptions
from tabattn.sparsity.predicted import pattern_of, predicted
from tabattn.sparsity.task import SparsefinderProjections
from tabattn.storage.files import write_checkpoint
from tabattn.storage.projection_files import LayerProjection, write_projections
from tabattn.storage.projection_loading import load_projections, read_learned
from tests.sparsity.recorded import batch

PATHS = ("first.mechanism", "second.mechanism")


class Two(nn.Module):
    """Two layers of any mechanism."""

    def __init__(self, mechanism: Any) -> None:
        super().__init__()
        for name in ("first", "second"):
            setattr(self, name, nn.ModuleDict({"mechanism": mechanism(2, 6)}))


def finder(**options: Any) -> Two:
    return Two(partial(Sparsefinder, **{"mode": "mask", "grouping": "kmeans", **options}))


def state(width: int = 4) -> dict[str, Tensor]:
    return {"w": torch.randn(2, 6, width), "b": torch.randn(2, 1, width)}


def learned(shared: bool = False, clusters: int | None = 3) -> dict[str, LayerProjection]:
    found = {}
    for path in (*PATHS, "third.mechanism"):
        q = state()
        centroids = None if clusters is None else torch.randn(2, 1, clusters, 4)
        found[path] = LayerProjection(q, q if shared else state(), shared, centroids)
    return found


@pytest.mark.parametrize("shared", [False, True])
def test_every_mechanism_is_filled_by_its_path(shared: bool, tmp_path: Path) -> None:
    layers = learned(shared)
    write_projections(tmp_path / "a.safetensors", layers)
    # A mechanism with two maps takes shared ones twice.
    model = finder(shared=False)
    assert load_projections(model, tmp_path / "a.safetensors") == list(PATHS)
    for path in PATHS:
        mechanism: Any = model.get_submodule(path)
        assert torch.equal(mechanism.projection.q.w, layers[path].q["w"])
        assert torch.equal(mechanism.projection.k.b, layers[path].k["b"])
        assert torch.equal(mechanism.pattern.centroids, layers[path].centroids)
        q, k, v = (torch.randn(1, 2, 7, 6) for _ in range(3))
        assert mechanism(q, k, v).shape == (1, 2, 7, 6)


@pytest.mark.parametrize(("hidden", "shared"), [(None, True), (5, False)])
def test_a_checkpoint_of_the_task_is_read(hidden: int | None, shared: bool, tmp_path: Path) -> None:
    layers = [{**Layer(path, 2, 6, (1.5, 1.5), 6**-0.5)._asdict(), "alpha": [1.5, 1.5]} for path in PATHS]
    task = SparsefinderProjections(4, hidden, shared, clusters=ClusterOptions(3), layers=layers)
    checkpoint: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": {}}
    task.on_save_checkpoint(saved := {"state_dict": {}, "hyper_parameters": dict(task.hparams)})
    checkpoint["hyper_parameters"] = saved["hyper_parameters"]
    write_checkpoint(tmp_path / "a.ckpt", checkpoint)
    assert read_learned(tmp_path / "a.ckpt")[PATHS[0]].centroids is None
    with pytest.raises(ValueError, match=r"first\.mechanism has no centroids for kmeans"):
        load_projections(finder(hidden=hidden, shared=shared), tmp_path / "a.ckpt")
    task.network.maps()[1].centroids.normal_()
    task.network.maps()[0].centroids.normal_()
    write_checkpoint(tmp_path / "a.ckpt", checkpoint | {"state_dict": task.state_dict()})
    model = finder(hidden=hidden, shared=shared)
    load_projections(model, tmp_path / "a.ckpt")
    mechanism: Any = model.get_submodule(PATHS[1])
    q, k = torch.randn(1, 2, 7, 6), torch.randn(1, 2, 5, 6)
    for own, given in zip(mechanism.projection(q, k), task.network.maps()[1].projection(q, k), strict=True):
        assert torch.equal(own, given)
    assert torch.equal(mechanism.pattern.centroids, task.network.maps()[1].centroids)


@pytest.mark.parametrize(
    ("model", "layers", "said"),
    [
        (Two(Entmax), learned(), "Two has no Sparsefinder mechanism"),
        (finder(grouping="window"), learned(), "Two has groupings without projections: window"),
        (finder(), dict(list(learned().items())[1:]), "no projections of first.mechanism; it has those of second"),
        (finder(width=5), learned(), "first.mechanism has width 4, the mechanism 5"),
        (finder(hidden=5), learned(), "first.mechanism has hidden None, the mechanism 5"),
        (finder(shared=True), learned(), "the mechanism one for both: set shared to false"),
        (finder(), learned(clusters=None), "first.mechanism has no centroids for kmeans"),
        (finder(knob=4), learned(), "first.mechanism has 3 clusters, the mechanism's knob is 4"),
    ],
)
def test_what_does_not_fit_is_refused(model: Two, layers: Any, said: str, tmp_path: Path) -> None:
    write_projections(tmp_path / "a.safetensors", layers)
    with pytest.raises(ValueError, match=said):
        load_projections(model, tmp_path / "a.safetensors")


def test_checkpoints_of_other_tasks_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.ckpt", {"state_dict": {}, "hyper_parameters": {"layers": 3}})
    with pytest.raises(DataError, match="no checkpoint of SparsefinderProjections"):
        read_learned(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("own", "clusters"),
    [
        ({"shared": "concat"}, ClusterOptions(3)),
        ({"width": None, "shared": False}, ClusterOptions(3)),
        ({"width": None, "shared": "concat"}, ClusterOptions(3)),
        ({"shared": True}, ClusterOptions(3, block=2)),
    ],
)
def test_checkpoints_of_every_kind_of_projection_fill_a_mechanism(own: Any, clusters: Any, tmp_path: Path) -> None:
    layers = [{**Layer(path, 2, 6, (1.5, 1.5), 6**-0.5)._asdict(), "alpha": [1.5, 1.5]} for path in PATHS]
    task = SparsefinderProjections(**{"width": 4, **own}, clusters=clusters, layers=layers)
    for maps in task.network.maps():
        maps.centroids.normal_()
    task.on_save_checkpoint(saved := {"state_dict": {}, "hyper_parameters": dict(task.hparams)})
    write_checkpoint(tmp_path / "a.ckpt", {**saved, "state_dict": task.state_dict()})
    write_projections(tmp_path / "a.safetensors", read_learned(tmp_path / "a.ckpt"))
    grouping = f"kmeans/{clusters.block}" if clusters.block > 1 else "kmeans"
    options = GraphOptions(grouping, 3)
    given = batch()
    for name in ("a.ckpt", "a.safetensors"):
        model = finder(grouping=grouping, **{"width": 4, **own})
        load_projections(model, tmp_path / name)
        for maps, path in zip(task.network.maps(), PATHS, strict=True):
            pattern = pattern_of(options, {"centroids": maps.centroids})
            expected = predicted(pattern, options, given, maps(given))
            mechanism: Any = model.get_submodule(path)
            assert torch.equal(mechanism.graph(given.q, given.k, given.seen), expected)
            assert 0 < expected.sum() < given.seen.expand_as(expected).sum()


def test_other_kinds_of_projection_are_refused(tmp_path: Path) -> None:
    given = {}
    for path in PATHS:
        both = {"w": torch.randn(2, 12, 4), "b": torch.randn(2, 1, 4)}
        given[path] = LayerProjection(both, both, "concat", torch.randn(2, 1, 3, 8))
    write_projections(tmp_path / "a.safetensors", given)
    for own, said in (
        ({"shared": True}, "has shared concat, the mechanism true: set it to concat"),
        ({"shared": "concat", "width": None}, "has width 4, the mechanism None"),
        ({"shared": "concat"}, "has centroids of blocks of 2 tokens, the mechanism's grouping is of 1"),
    ):
        with pytest.raises(ValueError, match=said):
            load_projections(finder(**own), tmp_path / "a.safetensors")
    write_projections(tmp_path / "b.safetensors", learned(True))
    with pytest.raises(ValueError, match="has shared true, the mechanism concat: set it to true"):
        load_projections(finder(shared="concat"), tmp_path / "b.safetensors")
