"""Task of attention graphs: each layer is trained as if it were alone, and checkpoints hold the clusters."""

import copy
import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import SGD

from callbacks import GraphScoreTable
from callbacks.graph_scores import averaged, front
from datamodules import QueriesKeys
from tabattn.sparsity.options import ClusterOptions, GraphOptions, LossOptions, SweepOptions
from tabattn.sparsity.scored import Step
from tabattn.sparsity.task import SparsefinderProjections
from tests.sparsity.recorded import FIRST, file

FEW = ClusterOptions(clusters=3)


def trainer(folder: Path, **options: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "num_sanity_val_steps": 0}
    return Trainer(accelerator="cpu", default_root_dir=folder, **{"max_steps": 6, **quiet, **options})


def fitted(folder: Path, task: SparsefinderProjections, layers: str | None = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    run = trainer(folder, **options)
    run.fit(task, QueriesKeys(file(folder), 3, layers=layers))
    return run


def test_it_learns(tmp_path: Path) -> None:
    task = SparsefinderProjections(3, clusters=FEW).use_optimizer(lambda each: SGD(each, 0.01), None)
    data = QueriesKeys(file(tmp_path), 3)
    task.check_data(data)
    run = trainer(tmp_path, max_steps=60)
    before = run.validate(task, data, verbose=False)[0]
    run.fit(task, data)
    after = run.validate(task, data, verbose=False)[0]
    assert after["val/loss"] < 0.7 * before["val/loss"]
    for name in ("recall", "precision", "f1", "exact", "sparsity", "dropped_mass", "output_error"):
        assert 0 <= after[f"val/{name}"] <= 2
    assert after["val/recall"] == pytest.approx(
        (after["val/recall/network.0"] + after["val/recall/network.1"]) / 2, abs=1e-6
    )


@pytest.mark.parametrize("shared", [False, True])
def test_it_starts_from_the_factors_of_scores(shared: bool, tmp_path: Path) -> None:
    data = QueriesKeys(file(tmp_path), 3)
    expected = SparsefinderProjections(3, shared=shared, clusters=FEW)
    expected.check_data(data)
    for start in ("scores", "random"):
        torch.manual_seed(0)
        task = SparsefinderProjections(3, shared=shared, clusters=FEW, start=start)
        task.use_optimizer(lambda each: SGD(each, 0.0), None)
        task.check_data(data)
        drawn = copy.deepcopy(task.network)
        fitted(tmp_path, task, enable_checkpointing=False)
        layers = zip(task.network.maps(), drawn.maps(), expected.network.maps(), data.clustered.layers, strict=True)
        for maps, before, factors, batch in layers:
            factors.approximate(batch)
            same = (factors if start == "scores" else before).projection.state_dict()
            for name, value in maps.projection.state_dict().items():
                assert torch.allclose(value, same[name], atol=1e-5)
        with pytest.raises(ValueError, match="start must be scores or random, got 'other'"):
            SparsefinderProjections(start="other")  # type: ignore[arg-type]


def test_what_was_trained_is_not_started_again(tmp_path: Path) -> None:
    task = SparsefinderProjections(3, clusters=FEW)
    run = fitted(tmp_path, task)
    path = run.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    loaded = SparsefinderProjections.load_from_checkpoint(path)
    initialised = SparsefinderProjections(3, clusters=FEW, init_from=path)
    for again in (task, loaded, initialised):
        again.use_optimizer(lambda each: SGD(each, 0.0), None)
        fitted(tmp_path, again, enable_checkpointing=False)
        for maps, before in zip(again.network.maps(), task.network.maps(), strict=True):
            assert torch.equal(maps.projection.q.w, before.projection.q.w)


@pytest.mark.parametrize("sizes", [{"width": 3, "hidden": 5}, {"width": 7}])
def test_maps_that_cannot_be_factors_are_drawn(sizes: dict[str, int], tmp_path: Path) -> None:
    task = SparsefinderProjections(**sizes, clusters=FEW)  # type: ignore[arg-type]
    fitted(tmp_path, task)
    assert not any(maps.projection.approximates for maps in task.network.maps())


class Seeded(SparsefinderProjections):
    """Draws the same keys in each layer."""

    def layer_loss(self, step: Step, generator: torch.Generator | None = None) -> Tensor:
        return super().layer_loss(step, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("clip", [None, 0.05])
def test_a_layer_is_trained_as_if_it_were_alone(clip: float | None, tmp_path: Path) -> None:
    """Beside others whose gradients are larger, also where gradients are clipped."""
    found = []
    for layers in ("network.0", None):
        task = Seeded(3, loss=LossOptions(margin=3.0), clusters=FEW, start="random")
        task.use_optimizer(lambda each: SGD(each, 0.01), None)
        torch.manual_seed(5)
        data = QueriesKeys(file(tmp_path), 3, layers=layers)
        task.check_data(data)
        if layers is not None:
            start = copy.deepcopy(task.network.maps()[0].state_dict())
        else:
            task.network.maps()[0].load_state_dict(start)
            with torch.no_grad():
                for weight in task.network.maps()[1].parameters():
                    weight.mul_(30)
        options: dict[str, Any] = {"gradient_clip_val": clip, "limit_val_batches": 0, "enable_checkpointing": False}
        trainer(tmp_path, max_steps=3, **options).fit(task, data)
        found.append([weight.detach().clone() for weight in task.network.maps()[0].parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_checkpoint_holds_the_clusters_of_its_projections(tmp_path: Path) -> None:
    task = SparsefinderProjections(3, hidden=5, shared=False, clusters=FEW)
    data = QueriesKeys(file(tmp_path), 3)
    run = fitted(tmp_path, task)
    loaded = SparsefinderProjections.load_from_checkpoint(run.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    assert loaded.found == task.found
    for maps, batch in zip(loaded.network.maps(), data.clustered.layers, strict=True):
        assert torch.allclose(maps.centroids, maps.clusters(batch, FEW), atol=1e-5)
        assert maps.centroids.any()
    again = trainer(tmp_path).validate(loaded, data, verbose=False)[0]
    assert again == pytest.approx(trainer(tmp_path).validate(task, data, verbose=False)[0], nan_ok=True)


def test_clusters_are_learned_without_validation(tmp_path: Path) -> None:
    task = SparsefinderProjections(3, clusters=FEW)
    fitted(tmp_path, task, limit_val_batches=0)
    assert all(maps.centroids.any() for maps in task.network.maps())


def test_a_sweep_writes_tables_and_pictures(tmp_path: Path) -> None:
    sweep = SweepOptions({"fixed": [2, 4], "kmeans": [2, 3], "window": [3]}, tops=(1,))
    task = SparsefinderProjections(3, clusters=FEW, sweep=sweep)
    fitted(tmp_path, task)
    trainer(tmp_path, callbacks=[GraphScoreTable()]).test(
        task, QueriesKeys(f"{tmp_path}/recorded.h5", 3), verbose=False
    )
    rows = list(csv.DictReader((tmp_path / "graphs_by_head.csv").read_text().splitlines()))
    assert len(rows) == 5 * (2 + 3)
    assert {row["layer"] for row in rows} == {"network.0", "network.1"}
    # The second layer attends from outside, so it has no window.
    windows = [row for row in rows if row["graph"] == "window 3"]
    assert {row["layer"]: row["recall"] == "" for row in windows} == {"network.0": False, "network.1": True}
    means = {row["graph"]: row for row in csv.DictReader((tmp_path / "graphs.csv").read_text().splitlines())}
    assert list(means) == ["fixed 2", "fixed 4", "kmeans 2", "kmeans 3", "window 3"]
    assert float(means["fixed 2"]["sparsity"]) > float(means["fixed 4"]["sparsity"])
    assert float(means["fixed 2"]["recall"]) <= float(means["fixed 4"]["recall"])
    pictures = {path.stem for path in (tmp_path / "figures").rglob("*.png")}
    assert pictures == {"recall", "precision", "f1", "exact", "dropped_mass", "output_error"}


def test_a_pattern_that_a_layer_cannot_have_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = SweepOptions({"window": [1, 3, 5], "openai": [4, 8]})
    task = SparsefinderProjections(3, clusters=FEW, sweep=sweep)
    with caplog.at_level("INFO"):
        trainer(tmp_path).test(task, QueriesKeys(file(tmp_path), 3), verbose=False)
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert [text.split(" compares")[0] for text in told] == ["network.1: window 1", "network.1: openai 4"]


def test_gates_are_fitted_to_training_items_and_serve_queries_of_others(tmp_path: Path) -> None:
    sweep = SweepOptions({"gate": [1, 100], "pages": [100], "topk": [100]})
    task = SparsefinderProjections(3, clusters=FEW, sweep=sweep)
    data = QueriesKeys(file(tmp_path), 3)
    trainer(tmp_path, callbacks=[GraphScoreTable()]).test(task, data, verbose=False)
    rows = list(csv.DictReader((tmp_path / "graphs_by_head.csv").read_text().splitlines()))
    assert len(rows) == 4 * (2 + 3)
    for row in rows:
        assert row["graph"] == "gate 1" or (float(row["sparsity"]), float(row["recall"])) == (0.0, 1.0)
    assert {row["layer"] for row in rows if float(row["recall"]) > 0} == {"network.0", "network.1"}
    first, again = (task.learned(0, GraphOptions("gate", knob))["of_keys"] for knob in (1, 7))
    assert first is again
    alone = SparsefinderProjections(3, layers=task.hparams["layers"], clusters=FEW, sweep=sweep)
    with pytest.raises(MisconfigurationException, match="gate 1 is learned of training items, which the data does not"):
        trainer(tmp_path).test(alone, data.test_dataloader(), verbose=False)


def test_means_are_over_heads_then_layers() -> None:
    shared = {"graph": "a", "grouping": "a", "knob": 1.0, "top": 1, "window": 0, "ends": 0}
    scores = [("x", 0, 0.0), ("x", 1, 1.0), ("y", 0, 1.0), ("z", 0, float("nan"))]
    rows = [{**shared, "layer": layer, "head": head, "recall": value} for layer, head, value in scores]
    assert averaged(rows) == [{**shared, "recall": 0.75}]


def test_a_front_has_no_point_that_another_is_better_than() -> None:
    points = [(0.1, 0.9), (0.2, 0.95), (0.5, 0.5), (0.6, 0.5), (0.9, 0.1)]
    assert front(points, least=False) == [(0.2, 0.95), (0.6, 0.5), (0.9, 0.1)]
    assert front(points, least=True) == [(0.9, 0.1)]


def test_other_layers_than_the_checkpoint_s_are_refused(tmp_path: Path) -> None:
    own = [{**FIRST._asdict(), "alpha": list(FIRST.alpha)}]
    task = SparsefinderProjections(3, layers=own)
    with pytest.raises(MisconfigurationException, match=r"projections are of 1 layers, network\.0 .* the data of 2"):
        trainer(tmp_path).validate(task, QueriesKeys(file(tmp_path)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"graph": GraphOptions("window", 3)}, "window 3 compares positions"),
        ({"graph": GraphOptions("kmeans", 1000)}, "clusters must be at most"),
    ],
)
def test_a_graph_that_a_layer_cannot_have_is_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    task = SparsefinderProjections(3, clusters=FEW, **options)
    with pytest.raises(MisconfigurationException, match=said):
        trainer(tmp_path).test(task, QueriesKeys(file(tmp_path)), verbose=False)


def test_tasks_without_graphs_have_no_table(tmp_path: Path) -> None:
    from tests.helpers import MeanData, MeanTask

    with pytest.raises(MisconfigurationException, match="MeanTask scores no graphs"):
        trainer(tmp_path, callbacks=[GraphScoreTable()]).test(MeanTask(), MeanData())


@pytest.mark.parametrize("own", [{"shared": "concat"}, {"width": None}, {"width": None, "shared": "concat"}])
def test_both_together_and_nothing_projected_are_trained_and_scored(own: dict[str, Any], tmp_path: Path) -> None:
    knobs = {"kmeans": [3, 4], "kmeans/2": [2], "fixed": [2], "fixed/2": [1], "gate/4": [1], "pages/4": [1]}
    task = SparsefinderProjections(**{"width": 3, **own}, clusters=FEW, sweep=SweepOptions(knobs, tops=(1,)))
    data = QueriesKeys(file(tmp_path), 3, layers="network.0")
    run = trainer(tmp_path)
    run.fit(task, data)
    maps = task.network.maps()[0]
    assert maps.centroids.any()
    assert maps.centroids.shape[3] == maps.projection.width
    run.test(task, data, verbose=False)
    rows = {row["graph"]: row for row in task.graph_rows() if row["head"] == 0}
    assert list(rows) == ["kmeans 3", "kmeans 4", "kmeans/2 2", "fixed 2", "fixed/2 1", "gate/4 1", "pages/4 1"]
    assert all(0 <= row["recall"] <= 1 and 0 <= row["sparsity"] < 1 for row in rows.values())
    path = run.checkpoint_callback.best_model_path  # type: ignore[union-attr]
    again = SparsefinderProjections.load_from_checkpoint(path).network.maps()[0]
    for name, value in maps.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    if own == {"shared": "concat"}:
        both = SparsefinderProjections(3, shared="concat", clusters=FEW)
        with pytest.raises(MisconfigurationException, match=r"network\.1: shared=concat .* not the same tokens"):
            fitted(tmp_path, both, enable_checkpointing=False)


def test_a_sweep_over_blocks_has_pages_and_gates_of_that_size(tmp_path: Path) -> None:
    task = SparsefinderProjections(3, clusters=ClusterOptions(2, block=2))
    fitted(tmp_path, task)
    assert torch.equal(task.learned(0, GraphOptions("kmeans/2"))["centroids"], task.network.maps()[0].centroids)
    assert task.learned(0, GraphOptions("kmeans"))["centroids"].shape[3] == 3
    assert task.learned(0, GraphOptions("gate/4", 2)) is task.learned(0, GraphOptions("gate/4", 1))
    four, sixteen = (task.learned(0, GraphOptions(name))["of_keys"] for name in ("gate/4", "gate"))
    assert not torch.equal(four, sixteen)
    assert task.learned(0, GraphOptions("pages/4")) == {}


def test_other_clusters_are_those_of_the_projections_as_they_are(tmp_path: Path) -> None:
    task = SparsefinderProjections(3, clusters=FEW)
    run = fitted(tmp_path, task, enable_checkpointing=False)
    before, gate = (task.learned(0, GraphOptions(name, knob)) for name, knob in (("kmeans", 4), ("gate", 1)))
    assert task.learned(0, GraphOptions("kmeans", 4)) is before
    with torch.no_grad():
        for weight in task.network.maps()[0].parameters():
            weight.mul_(2)
    task.stale = True
    task.learn_clusters()
    after = task.learned(0, GraphOptions("kmeans", 4))["centroids"]
    torch.testing.assert_close(after.norm(), 2 * before["centroids"].norm(), rtol=0.2, atol=0.0)
    assert task.learned(0, GraphOptions("gate", 1)) is gate
    assert run.state.finished
