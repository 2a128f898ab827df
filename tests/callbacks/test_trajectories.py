"""Trajectories: plots of inferred sequences, and training stays bit-identical."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from PIL import Image

from callbacks import Trajectories, Weights
from callbacks.curves import Task, draw_trajectories
from datamodules import SyntheticPairs
from tabattn.contract.batches import PairBatch
from tabattn.contract.views import ExactDensity
from tests.callbacks.pairs import TinyPairs, fit, loader
from tests.callbacks.tiny import TinyTask, board, trainer
from tests.helpers import build
from tests.pairs.tasks import tasks

NAMES = ["attention_001", "attention_002", "trajectories"]


def test_pictures_go_to_tensorboard_and_to_the_folder_of_the_run(tmp_path: Path) -> None:
    fit(tmp_path, TinyPairs(), Trajectories(attention_steps=2))
    events = board(tmp_path)
    assert sorted(events.Tags()["images"]) == [f"inference/{name}" for name in NAMES]
    home = tmp_path / "board" / "version_0" / "figures"
    assert sorted(path.name for path in home.iterdir()) == ["validation_000002", "validation_000004"]
    for step in (2, 4):
        for name in NAMES:
            image = next(event for event in events.Images(f"inference/{name}") if event.step == step)
            with Image.open(home / f"validation_{step:06d}" / f"{name}.png") as file:
                assert file.size == (image.width, image.height)


def test_the_first_tasks_of_the_first_batch_are_inferred_each_time(tmp_path: Path) -> None:
    task = TinyPairs()
    fit(tmp_path, task, Trajectories(tasks=2, attention_steps=0))
    assert len(task.asked) == 2
    for batch in task.asked:
        assert torch.equal(batch.x, tasks().x[:2])
        assert batch.context == tasks().context


def test_every_skips_validations_and_a_test_has_a_name_of_its_own(tmp_path: Path) -> None:
    fit(tmp_path, TinyPairs(), Trajectories(every=2, attention_steps=0), max_epochs=3)
    assert [event.step for event in board(tmp_path).Images("inference/trajectories")] == [2, 6]
    trainer(tmp_path, [Trajectories(attention_steps=0)]).test(TinyPairs(), loader(), verbose=False)
    assert board(tmp_path, 1).Tags()["images"] == ["test/inference/trajectories"]
    assert (tmp_path / "board" / "version_1" / "figures" / "test_000000" / "trajectories.png").exists()


def test_any_task_of_any_batch_and_any_step_layer_and_head(tmp_path: Path) -> None:
    """Tasks are counted over batches, of three here, and the sanity check counts none twice."""
    task = TinyPairs()
    looking = Trajectories(tasks=[4, 1], attention_tasks=2, attention_steps=[4, 2], layers=r"blocks\.[01]\.", heads=[1])
    fit(tmp_path, task, looking, max_epochs=1, num_sanity_val_steps=1)
    first, second = task.asked
    assert torch.equal(first.x, tasks().x[1:2])
    assert torch.equal(second.x, tasks().x[1:2])
    names = [f"attention_task{number:03d}_{step:03d}" for number in (1, 4) for step in (2, 4)]
    assert sorted(board(tmp_path).Tags()["images"]) == [f"inference/{name}" for name in [*names, "trajectories"]]
    home = tmp_path / "board" / "version_0" / "figures" / "validation_000002"
    assert sorted(path.stem for path in home.iterdir()) == [*names, "trajectories"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": [2, 6, 7]}, "Trajectories: validation has 6 tasks on this rank, so there is no number 6, 7"),
        ({"attention_steps": [1, 99]}, r"Trajectories: task 0 \(validation, step 2\) has no target number 99"),
    ],
)
def test_what_there_is_not_is_said(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=message):
        fit(tmp_path, TinyPairs(), Trajectories(**options), max_epochs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "none"}, "Trajectories: layers='none' matches no layer in which targets attend; there are: "),
        ({"heads": [0, 2]}, r"Trajectories: heads must be below 2, the heads of .*, got \[0, 2\]"),
    ],
)
def test_layers_and_heads_that_there_are_not_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        fit(tmp_path, TinyPairs(), Trajectories(**options))


def test_predictions_are_drawn_as_they_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[tuple[str, Task]]] = []

    def watched(tasks: list[tuple[str, Task]], title: str) -> Any:
        drawn.append(tasks)
        return draw_trajectories(tasks, title)

    monkeypatch.setattr("callbacks.curves.draw_trajectories", watched)
    task = TinyPairs()
    looking = Trajectories(tasks=[1, 5], attention_steps=[2])
    run = trainer(tmp_path, [looking], logger=False, default_root_dir=tmp_path)
    outputs = run.predict(task, loader())
    ((first, one), (second, other)) = drawn[0]
    assert (first, second) == ("task 1", "task 5")
    for shown, output, index in ((one, outputs[0], 1), (other, outputs[1], 2)):
        expected = output.mean[index][output.mean[index].isfinite()]
        assert shown.mean == pytest.approx(expected.numpy())
        assert shown.samples[0] == pytest.approx(output.samples[0, index, : len(expected)].numpy())
    home = tmp_path / "figures" / "predict_000000"
    assert sorted(path.stem for path in home.iterdir()) == ["attention_task001_002", "trajectories"]
    assert len(task.asked) == 2


def test_the_exact_process_is_drawn_of_the_same_layout(tmp_path: Path) -> None:
    laid: list[PairBatch] = []

    class Known(SyntheticPairs):
        def exact(self, batch: PairBatch) -> ExactDensity | None:
            laid.append(batch)
            return super().exact(batch)

    data = build(Known, points=(8, 8), context=3, batch_size=2, evaluation__val_batches=1, steps_per_epoch=1)
    task = TinyPairs()
    trainer(tmp_path, [Trajectories(tasks=2, attention_steps=0)], max_epochs=1, num_sanity_val_steps=0).fit(task, data)
    assert [batch.context for batch in laid] == [10]
    assert laid[0].process is not None


def test_training_is_bit_identical_with_and_without_looking(tmp_path: Path) -> None:
    results = []
    for callbacks in ([], [Trajectories(tasks=1, attention_steps=1), Weights()]):
        torch.manual_seed(3)
        task = TinyPairs()
        fit(tmp_path, task, *callbacks)
        assert len(task.asked) == (2 if callbacks else 0)
        results.append((task.losses, [*task.state_dict().values()], torch.get_rng_state()))
    (losses, weights, state), (looked_losses, looked_weights, looked_state) = results
    assert losses == looked_losses
    assert all(torch.equal(one, two) for one, two in zip(weights, looked_weights, strict=True))
    assert torch.equal(state, looked_state)


def test_a_run_without_tensorboard_still_writes_files_and_a_fast_dev_run_writes_none(tmp_path: Path) -> None:
    fit(tmp_path / "bare", TinyPairs(), Trajectories(), logger=False, default_root_dir=tmp_path / "bare", max_epochs=1)
    assert (tmp_path / "bare" / "figures" / "validation_000002" / "trajectories.png").exists()
    task = TinyPairs()
    fit(tmp_path / "dev", task, Trajectories(), fast_dev_run=True, default_root_dir=tmp_path / "dev")
    assert task.asked
    assert not list((tmp_path / "dev").rglob("*.png"))


def test_plotting_makes_no_collective_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Alone(Trajectories):
        def look(self, trainer: Any, task: Any, split: str, batch: Any) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(trainer.strategy, "broadcast", lambda *args: pytest.fail("only rank zero is here"))
                super().look(trainer, task, split, batch)

    task = TinyPairs()
    fit(tmp_path, task, Alone(attention_steps=0))
    assert task.asked


def test_other_ranks_do_not_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TinyPairs()
    run = trainer(tmp_path, [Trajectories(), Weights()])
    monkeypatch.setattr(type(run), "is_global_zero", False)
    run.fit(task, loader(), loader())
    assert not task.asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"tasks": 9}, r"tasks must be in \[1, 8\], or so many numbers, got 9"),
        ({"tasks": []}, r"tasks must be in \[1, 8\], or so many numbers, got \[\]"),
        ({"tasks": [3, -1]}, r"tasks must be distinct numbers from 0, at least one, got \[3, -1\]"),
        ({"attention_steps": -1}, "attention_steps must be at least 0, got -1"),
        ({"attention_steps": [0]}, r"attention_steps must be distinct numbers from 1, at least one, got \[0\]"),
        ({"attention_tasks": 5}, r"attention_tasks must be in \[0, 4\], the number of tasks, got 5"),
        ({"layers": "("}, "layers must be a regular expression"),
        ({"heads": [1, 1]}, r"heads must be distinct numbers from 0, at least one, got \[1, 1\]"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trajectories(**arguments)


def test_a_task_without_trajectories_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="TinyTask draws no trajectories"):
        fit(tmp_path, TinyTask(), Trajectories())
