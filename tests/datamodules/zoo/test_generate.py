"""Generation of a zoo: what the file says is so, and an interrupted generation goes on."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.zoo import generate as module
from datamodules.zoo.architectures import buckets, draw_runs
from datamodules.zoo.generate import generate
from datamodules.zoo.profiles import CHECKPOINTS, FAMILIES, PROFILES
from datamodules.zoo.tasks import TEST, TRAIN, draw_tasks
from datamodules.zoo.zoo_file import Zoo, read_zoo
from tabattn.contract.activations import ACTIVATIONS
from tabattn.contract.errors import DataError
from tabattn.contract.graphs import BIASED, WEIGHTED
from tabattn.contract.modules import to_module


def equal(first: Zoo, second: Zoo) -> bool:
    """Whether two zoos hold the same, up to rounding of what is trained."""
    for one, other in ((first.models, second.models), (first.splits, second.splits), (first.tasks, second.tasks)):
        arrays = [each.values() if isinstance(each, dict) else each for each in (one, other)]
        if not all(np.allclose(a, b, rtol=1e-3, atol=1e-3, equal_nan=True) for a, b in zip(*arrays, strict=True)):
            return False
    same = [
        np.array_equal(getattr(first.population, name), getattr(second.population, name))
        for name in ("vertex_pointer", "edge_pointer", "type", "level", "flags", "degree", "source")
    ]
    return all(same) and np.allclose(first.population.weight, second.population.weight, atol=1e-4)


def test_scores_are_those_of_the_networks(zoo: Zoo) -> None:
    assert len(zoo.population) == 60 * len(CHECKPOINTS)
    for number in range(0, len(zoo.population), 7):
        task, network = int(zoo.models["task"][number]), to_module(zoo.population[number])
        for part, name in enumerate(("train_r2", "val_r2", "test_r2")):
            own = zoo.tasks.part[task] == part
            x, y = zoo.tasks.x[task, own, : zoo.tasks.columns[task]], zoo.tasks.y[task, own, 0]
            with torch.no_grad():
                found = network(torch.from_numpy(x))[:, 0].numpy()
            expected = 1 - np.square(found - y).sum() / np.square(y - y.mean()).sum()
            assert zoo.models[name][number] == pytest.approx(expected, abs=1e-3, rel=1e-3)


def test_checkpoints_of_a_run_are_of_one_architecture_and_differ(zoo: Zoo) -> None:
    count = len(CHECKPOINTS)
    for start in range(0, len(zoo.population), count):
        own = slice(start, start + count)
        assert len(set(zoo.models["run"][own])) == len(set(zoo.models["arch"][own])) == 1
        assert zoo.models["step"][own].tolist() == [2, 5, 10, 20]
        graphs = [zoo.population[number] for number in range(start, start + count)]
        assert len({graph.architecture() for graph in graphs}) == 1
        assert len(set(graphs)) == count
    runs = zoo.models["run"][::count]
    assert sorted(runs) == list(range(60))
    assert (zoo.models["task"][::count] == runs % 8).all()


def test_architectures_in_words_are_those_of_the_graphs(zoo: Zoo) -> None:
    names = list(ACTIVATIONS)
    for number in range(0, len(zoo.population), len(CHECKPOINTS)):
        graph = zoo.population[number]
        words = zoo.architectures[zoo.models["arch"][number]]
        told = [str(graph.inputs)]
        for level in range(1, int(graph.level[-1]) + 1):
            own = graph.level == level
            last = level == graph.level[-1]
            (kind,) = set(graph.type[own])
            (flags,) = {flag & (BIASED + WEIGHTED) for flag in graph.flags[own].tolist()}
            told.append(f"{own.sum()}{'' if last else names[kind]}{'' if flags & BIASED else '/'}")
        assert words.partition("+")[0] == "-".join(told)
        widths = np.bincount(graph.level)
        dense = sum(a * b for a, b in pairwise(widths))
        skipping = any(graph.level[graph.child] - graph.level[graph.source] > 1)
        assert skipping <= ("+skips" in words)
        assert ("+" in words) or len(graph.source) == dense
        assert "+sparse" not in words or "+skips" in words or len(graph.source) < dense


def test_the_profiles_draw_all_that_they_name() -> None:
    profile = PROFILES["default"]
    runs = draw_runs(profile.networks, 4000, np.arange(4, 17), 0)
    assert set(runs.activation[runs.width > 0].tolist()) == set(range(len(ACTIVATIONS)))
    assert set(runs.depth.tolist()) == {1, 2, 3, 4, 5}
    assert (runs.width[runs.width > 0].min(), runs.width.max()) == (4, 32)
    assert 0.1 < runs.skips.float().mean() < 0.2
    assert 0.15 < (runs.kept < 1).float().mean() < 0.25
    assert 0.15 < 1 - runs.bias[:, -1].float().mean() < 0.25
    assert 1e-3 <= runs.rate.min() < 1.1e-3
    assert 1.9e-2 < runs.rate.max() <= 2.1e-2
    many = draw_runs(PROFILES["seed"].networks, 4000, np.full(20, 10), 0)
    assert set(many.depth.tolist()) == {1, 2, 3}
    assert (many.kept == 1).all()
    assert many.bias[:, -1].all()
    assert not many.skips.any()


def test_buckets_hold_each_run_once() -> None:
    runs = draw_runs(PROFILES["default"].networks, 500, np.arange(4, 17), 0)
    pieces = list(buckets(runs, 64))
    assert np.array_equal(np.concatenate([np.arange(500)[piece] for piece in pieces]), np.arange(500))
    for piece in pieces:
        assert piece.stop - piece.start <= 64
        assert len(runs.depth[piece].unique()) == len(runs.skips[piece].unique()) == 1
    assert next(buckets(runs, 64, 10)) == slice(10, min(74, next(buckets(runs, 500)).stop))


def test_a_run_does_not_depend_on_the_number_of_runs() -> None:
    profile, columns = PROFILES["default"].networks, np.arange(4, 12)
    few, many = draw_runs(profile, 30, columns, 5), draw_runs(profile, 300, columns, 5)
    few, many = few.at(few.run.argsort()), many.at(many.run.argsort())
    assert all(torch.equal(one, other[:30]) for one, other in zip(few, many, strict=True))
    other = draw_runs(profile, 30, columns, 6)
    assert not torch.equal(other.at(other.run.argsort()).width, few.width)


def test_tasks_are_standardised_and_of_all_families() -> None:
    tasks = draw_tasks(PROFILES["default"].tasks, 16, 0)
    assert sorted(tasks.family.tolist()) == sorted([*range(len(FAMILIES))] * 2)
    for task in range(16):
        there, train = tasks.part[task] <= TEST, tasks.part[task] == TRAIN
        x, y = tasks.x[task, there, : tasks.columns[task]], tasks.y[task, :, 0]
        assert np.isfinite(x).all()
        assert np.isnan(tasks.x[task, ~there]).all()
        assert np.isnan(tasks.x[task, :, tasks.columns[task] :]).all()
        assert np.isnan(y[~there]).all()
        assert (y[train].mean(), y[train].std()) == pytest.approx((0, 1), abs=1e-3)
        assert np.abs(x.mean(0)).max() < 0.25
        assert 0.8 < x.std(0).min() <= x.std(0).max() < 1.2
        assert 400 <= there.sum() <= 1000
        assert 0 <= tasks.noise[task] <= 0.3
    again = draw_tasks(PROFILES["default"].tasks, 3, 0)
    assert np.array_equal(again.x[2], tasks.x[2], equal_nan=True)


class Stopped(Exception):
    """The process is killed."""


def small(path: Path, **changes: object) -> Path:
    arguments = {"profile": "seed", "networks": 24, "tasks": 2, "seed": 1, "steps": 10, **changes}
    return generate(path, **arguments)  # type: ignore[arg-type]


def stopping(after: int) -> object:
    def progress(done: int, total: int) -> None:
        if done >= after:
            raise Stopped

    return progress


def test_an_interrupted_generation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.AT_ONCE, "cpu", 5)
    whole = read_zoo(small(tmp_path / "whole.h5"))
    path = tmp_path / "a.h5"
    with pytest.raises(Stopped):
        small(path, progress=stopping(13))
    parts = sorted(tmp_path.glob("a.h5.parts/*"))
    assert not path.exists()
    assert len(parts) >= 3
    parts[0].write_bytes(parts[0].read_bytes()[:-7])
    monkeypatch.setitem(module.AT_ONCE, "cpu", 7)
    seen: list[int] = []
    small(path, progress=lambda done, total: seen.append(done))
    assert 0 < seen[0] < 24 == seen[-1]
    assert equal(read_zoo(path), whole)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.h5", "whole.h5"]


def test_another_generation_does_not_go_on_from_it(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        small(tmp_path / "a.h5", progress=stopping(1))
    with pytest.raises(ValueError, match=r"begun with other arguments \(.*seed=1.*\): give them again, or delete it"):
        small(tmp_path / "a.h5", seed=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "sede"}, r"profile must be one of seed, mixed, default, got 'sede' \(did you mean 'seed'\?\)"),
        ({"networks": 3}, "networks must be at least 10, got 3"),
        ({"tasks": -1}, "tasks must be at least 1, got -1"),
        ({"tasks": 0}, "tasks must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 10, got 0"),
        ({"device": "tpu9"}, "device must be one of this machine, such as cpu, got 'tpu9'"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(tmp_path / "a.h5", **changes)
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_if_told(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"old")
    with pytest.raises(ValueError, match="exists: give another name, or --overwrite"):
        small(tmp_path / "a.h5")
    small(tmp_path / "a.h5", overwrite=True)
    assert len(read_zoo(tmp_path / "a.h5").population) == 96


def test_two_processes_do_not_write_one_zoo(tmp_path: Path) -> None:
    def second(done: int, total: int) -> None:
        with pytest.raises(DataError, match=r"a\.h5\.parts is being written by another process"):
            small(tmp_path / "a.h5")
        raise Stopped

    with pytest.raises(Stopped):
        small(tmp_path / "a.h5", progress=second)


def test_the_profile_of_many_tasks_has_the_networks_of_seed() -> None:
    mixed, seed = PROFILES["mixed"], PROFILES["seed"]
    assert mixed.networks == seed.networks
    assert (mixed.tasks.columns, mixed.tasks.rows) == (seed.tasks.columns, seed.tasks.rows)
    assert (mixed.tasks.families, mixed.tasks.tasks) == (FAMILIES, 2000)
