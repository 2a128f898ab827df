"""Trajectories: plots of inferred sequences, and training stays bit-identical."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from PIL import Image

from callbacks import Trajectories, Weights
from tests.callbacks.pairs import TinyPairs, fit, loader
from tests.callbacks.tiny import TinyTask, board, trainer
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
        ({"tasks": 9}, r"tasks must be in \[1, 8\], got 9"),
        ({"attention_steps": -1}, "attention_steps must be at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trajectories(**arguments)


def test_a_task_without_trajectories_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="TinyTask draws no trajectories"):
        fit(tmp_path, TinyTask(), Trajectories())
