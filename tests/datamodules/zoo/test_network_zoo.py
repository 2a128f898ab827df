"""Datamodule of a zoo: what batches hold, and who gets which."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from datamodules import NetworkZoo
from datamodules.counter import CounterLoader, RankSlice
from datamodules.zoo import ZooOptions
from datamodules.zoo.batches import ScoredBatches, TrainingBatches
from datamodules.zoo.tasks import TEST, TRAIN
from datamodules.zoo.zoo_file import Zoo, read_zoo, write_zoo
from tabattn.contract.graphs import NeuronDAG
from tabattn.contract.networks import NetworkBatch
from tabattn.metafeatures import NAMES
from tabattn.zoo import detokenize


def data(path: Path, **options: Any) -> NetworkZoo:
    return NetworkZoo(str(path), **{"batch_size": 8, "probes": 5, "rows": 7, "checkpoints": (0.5, 1.0), **options})


def training(made: NetworkZoo) -> TrainingBatches:
    dataset = made.train_dataloader().dataset
    assert isinstance(dataset, TrainingBatches)
    return dataset


def rows_of(zoo: Zoo, task: int, part: int) -> set[bytes]:
    return {row.tobytes() for row in zoo.tasks.x[task][zoo.tasks.part[task] == part]}


def graphs(batch: NetworkBatch) -> list[NeuronDAG]:
    return list(detokenize(batch.tokens))


def test_batches_hold_the_networks_and_their_tasks(zoo_path: Path, zoo: Zoo) -> None:
    made = data(zoo_path)
    for batch in (next(iter(made.train_dataloader())), next(iter(made.test_dataloader()))):
        count = len(batch.number)
        assert [zoo.population[number] for number in batch.number.tolist()] == graphs(batch)
        assert batch.task.tolist() == zoo.models["task"][batch.number].tolist()
        assert batch.probe.shape == (count, 5, 16)
        assert batch.meta.shape == (count, len(NAMES))
        assert batch.meta.isfinite().all()
        assert batch.context == 7
        assert batch.tokens.mask.shape[1] % 8 == 0
        for place, task in enumerate(batch.task.tolist()):
            seen = rows_of(zoo, task, TRAIN)
            assert all(row.numpy().tobytes() in seen for row in batch.x[place, :7])
            assert (batch.probe[place, :, zoo.tasks.columns[task] :] == 0).all()
            held = rows_of(zoo, task, TEST)
            assert all(row.numpy().tobytes() in held for row in batch.x[place, 7:])
            probed = {row[: zoo.tasks.columns[task]].numpy().tobytes() for row in batch.probe[place]}
            own = zoo.tasks.part[task] == (TRAIN if batch.x.shape[1] == 7 else TEST)
            assert probed <= {row.tobytes() for row in zoo.tasks.x[task, own, : zoo.tasks.columns[task]]}
        assert batch.y.shape == (*batch.x.shape[:2], 1)
    assert batch.x.shape[1] == 14


def test_targets_belong_to_their_rows(zoo_path: Path, zoo: Zoo) -> None:
    batch = next(iter(data(zoo_path).test_dataloader()))
    task = int(batch.task[0])
    known = {x.tobytes(): y for x, y in zip(zoo.tasks.x[task], zoo.tasks.y[task], strict=True)}
    assert all(known[x.numpy().tobytes()] == y.numpy() for x, y in zip(batch.x[0], batch.y[0], strict=True))


@pytest.mark.parametrize("split", ["network", "task", "architecture"])
def test_parts_are_apart_and_whole(zoo_path: Path, zoo: Zoo, split: Any) -> None:
    made = data(zoo_path, split=split, checkpoints=(1.0,))
    parts = [set(made.part(stage).tolist()) for stage in ("train", "val", "test")]  # type: ignore[arg-type]
    alive = np.flatnonzero((zoo.models["frac"] == 1) & ~zoo.models["constant"])
    assert sorted(number for part in parts for number in part) == alive.tolist()
    column = {"network": "run", "task": "task", "architecture": "arch"}[split]
    values = [set(zoo.models[column][list(part)]) for part in parts]
    assert len(set().union(*values)) == sum(map(len, values))


def test_an_epoch_visits_each_network_once_and_epochs_differ(zoo_path: Path) -> None:
    made = data(zoo_path)
    batches = training(made)
    epochs = [[batches[epoch * len(batches) + i] for i in range(len(batches))] for epoch in range(2)]
    for epoch in epochs:
        numbers = torch.cat([batch.number for batch in epoch]).tolist()
        assert sorted(numbers) == made.part("train").tolist()
        assert max(len(batch.number) for batch in epoch) <= 8
        for batch in epoch:
            sizes = batch.tokens.mask.sum(1)
            assert batch.tokens.mask.shape[1] - sizes.min() < 8
    assert [batch.number.tolist() for batch in epochs[0]] != [batch.number.tolist() for batch in epochs[1]]
    other = training(data(zoo_path))
    assert all(torch.equal(one, two) for one, two in zip(other[3].tokens, epochs[0][3].tokens, strict=True))
    assert torch.equal(other[3].probe, epochs[0][3].probe)
    assert not torch.equal(training(data(zoo_path, seed=1))[3].number, epochs[0][3].number)


def test_scored_batches_are_of_near_sizes_and_begin_with_the_middle(zoo_path: Path, zoo: Zoo) -> None:
    """Pictures show networks of the first batch: the smallest ones would all be of one architecture."""
    data = NetworkZoo(str(zoo_path), checkpoints=(0.1, 0.25, 0.5, 1.0), batch_size=4, rows=4, probes=4)
    batches = list(data.test_dataloader())
    sizes = [batch.tokens.mask.sum(1) for batch in batches]
    assert sorted(torch.cat([batch.number for batch in batches]).tolist()) == sorted(data.part("test"))
    middle = len(batches) - len(batches) // 2
    ordered = torch.cat([*sizes[middle:], *sizes[:middle]])
    assert torch.equal(ordered, ordered.sort().values)
    assert len(batches) > 3
    assert ordered.min() < sizes[0].min()
    assert sizes[0].max() < ordered.max()


def test_ranks_share_all_networks_and_a_resumed_run_goes_on(zoo_path: Path) -> None:
    made = data(zoo_path)
    batches = training(made)
    whole = [batches[i].number.tolist() for i in range(6)]
    ranks = [CounterLoader(batches, 3, rank, 2) for rank in (0, 1)]
    merged = [batch.number.tolist() for pair in zip(*ranks, strict=True) for batch in pair]
    assert merged == whole
    assert [batch.number.tolist() for batch in CounterLoader(batches, 2, position=4)] == whole[4:]
    scored = ScoredBatches(batches.source, made.part("val"))
    slices = [RankSlice(scored, rank, 2) for rank in (0, 1)]
    found = [number for part in slices for i in range(len(part)) for number in part[i].number.tolist()]
    assert sorted(found) == made.part("val").tolist()
    idle = RankSlice(scored, len(scored), len(scored) + 1)
    assert len(idle) == 1
    assert (idle[0].number == -1).all()


def test_dead_networks_are_left_out(zoo: Zoo, tmp_path: Path) -> None:
    dead = zoo.models["run"] == zoo.models["run"][40]
    changed = {**zoo.models, "constant": dead}
    write_zoo(tmp_path / "a.h5", Zoo(**{**vars(zoo), "models": changed}))
    made = data(tmp_path / "a.h5", checkpoints=(0.1, 0.25, 0.5, 1.0))
    parts = np.concatenate([made.part("train"), made.part("val"), made.part("test")])
    assert sorted(parts) == np.flatnonzero(~dead).tolist()
    assert ", 4 are dead; of those at 10, 25, 50, 100 % of their training " in made.told()


def test_meta_features_are_scaled_by_tasks_of_training_networks(zoo_path: Path, zoo: Zoo) -> None:
    made = data(zoo_path, split="task")
    training_tasks = np.unique(zoo.models["task"][made.part("train")])
    assert len(training_tasks) < 8
    meta = made.tasks["meta"]
    varied = np.isfinite(zoo.meta[training_tasks]).all(0) & (np.std(zoo.meta[training_tasks], 0) > 1e-3)
    inside = meta[training_tasks][:, varied]
    assert np.abs(inside.mean(0)).max() < 0.05
    assert np.abs(inside.std(0) - 1).max() < 0.05
    assert np.abs(meta[:, varied].mean(0)).max() > 0.05
    assert made.names == tuple(NAMES)


def test_facts_are_of_the_whole_zoo(zoo_path: Path, zoo: Zoo) -> None:
    made = data(zoo_path)
    sizes = [len(zoo.population[number]) for number in range(len(zoo.population))]
    assert (made.inputs, made.outputs, made.vertices) == (16, 1, max(sizes))
    assert made.levels == zoo.population.level.max() + 1
    assert set(made.splits) == {"network", "task", "architecture"}
    assert made.models["run"].shape == (240,)


def test_a_zoo_that_is_not_there_is_generated(tmp_path: Path) -> None:
    path = tmp_path / "folder/zoo.h5"
    made = NetworkZoo(str(path), zoo=ZooOptions(networks=30, tasks=3, seed=4, steps=10, device="cpu"), batch_size=16)
    made.prepare_data()
    made.setup("fit")
    assert len(read_zoo(path).population) == 120
    before = path.stat().st_mtime_ns
    NetworkZoo(str(path)).prepare_data()
    assert path.stat().st_mtime_ns == before
    assert len(next(iter(made.val_dataloader())).number) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"checkpoints": (0.3,)},
            r"has no networks to train on with split network at checkpoints \[0\.3\]: it has those of 0\.1, 0\.25",
        ),
        ({"checkpoints": ()}, "checkpoints must name at least one share"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"probes": 1}, "probes must be at least 2, got 1"),
        ({"rows": 0}, "rows must be at least 1, got 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_refused(zoo_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data(zoo_path, **options).train_dataloader()


def test_a_zoo_too_small_to_split_says_so(zoo: Zoo, tmp_path: Path) -> None:
    alone = {**zoo.splits, "task": np.zeros_like(zoo.splits["task"])}
    write_zoo(tmp_path / "a.h5", Zoo(**{**vars(zoo), "splits": alone}))
    made = data(tmp_path / "a.h5", split="task", checkpoints=(1.0,))
    with pytest.raises(ValueError, match=r"no networks to validate on with split task: all \d+ are in other parts"):
        made.val_dataloader()
    assert len(made.part("train")) > 50


def test_a_run_on_what_is_no_zoo_ends_in_one_line(zoo_path: Path, tmp_path: Path) -> None:
    """Of errors after the parsing, Lightning's command line shows these without a traceback."""
    for made, message in (
        (data(zoo_path, checkpoints=(0.3,)), r"has no networks to train on with split network at checkpoints \[0\.3\]"),
        (data(tmp_path), "is a folder: give the file of a zoo"),
        (data(tmp_path / "none.h5"), "there is no file"),
    ):
        with pytest.raises(MisconfigurationException, match=message):
            made.setup("fit")
    with pytest.raises(MisconfigurationException, match="seed must be at most 9223372036854775807"):
        data(tmp_path / "a.h5", zoo=ZooOptions(seed=2**63)).prepare_data()


def test_options_of_generation_are_checked() -> None:
    with pytest.raises(ValueError, match=r"zoo\.networks must be at least 10, got 2"):
        ZooOptions(networks=2)
    with pytest.raises(ValueError, match=r"zoo\.tasks must be at least 1, got 0"):
        ZooOptions(tasks=0)
