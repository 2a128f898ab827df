"""Worker: one cell, its result, its failures, and how it goes on after a kill."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tabattn.compare import leases, recorder, training, worker
from tabattn.compare.leases import Lease
from tabattn.compare.recorder import Recorder
from tabattn.compare.store import Store
from tabattn.compare.training import moved, slug, validations
from tabattn.compare.validations import Validations
from tabattn.training.cli import WATCH
from tests.compare.tiny import FLAGS, comparison


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A worker goes to the folder from which the comparison was started.
    monkeypatch.chdir(tmp_path)


HISTORY = ("--trainer.callbacks+=History", "--trainer.callbacks.metric=val/nothing")
"""Flags that are refused only when the training validates."""


class KilledError(BaseException):
    """Stands for SIGKILL."""


def run(store: Store, key: str) -> int:
    return worker.main([str(store.folder), key])


def result(store: Store, key: str) -> dict[str, Any]:
    found = store.entry(key).result
    assert found is not None
    return found


def curve(store: Store, key: str) -> list[dict[str, str]]:
    with (store.cell(key) / result(store, key)["curve"]).open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def die_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the training end at a step without warning, as by a kill, before its checkpoint."""
    whole = Recorder.on_train_batch_end

    def end(self: Recorder, trainer: Any, *args: Any) -> None:
        if trainer.global_step == step:
            raise KilledError
        whole(self, trainer, *args)

    monkeypatch.setattr(Recorder, "on_train_batch_end", end)


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int, store: Store, key: str) -> None:
    """Run a cell that saves after every step, and is killed at one."""
    monkeypatch.setattr(recorder, "SAVED", 0.0)
    with monkeypatch.context() as patch:
        die_at(patch, step)
        with pytest.raises(KilledError):
            run(store, key)


def test_a_cell_has_a_result_with_all_that_a_report_shows(tmp_path: Path) -> None:
    store, (key,) = comparison(tmp_path / "a folder", ("Local:window=2",))
    assert run(store, key) == 0
    found = result(store, key)
    assert (found["attention"], found["label"], found["seed"], found["task"]) == ("Local", "Local:window=2", 0, "pairs")
    assert (found["steps"], found["metric"], found["mode"]) == (6, "test/ll", "max")
    assert np.isfinite(found["scores"]["test/ll"])
    assert all(name.startswith("test/") for name in found["scores"])
    assert found["machine"]["threads"] == 1
    assert found["parameters"] > 0
    assert found["train_seconds"] > 0
    rows = curve(store, key)
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(float(row["loss"]) == float(row["loss"]) for row in rows)
    assert sum(bool(row["score"]) for row in rows) == 6
    maps = np.load(store.cell(key) / found["maps"])
    assert maps.files
    assert all(each.ndim == 3 and each.dtype == np.float16 for each in maps.values())
    assert np.allclose(maps[maps.files[0]].sum(-1), 1, atol=1e-2)
    assert list(store.cell(key).glob("attempts/1/Local_window=2/seed_0/events.out.*"))


def test_a_cell_is_never_run_twice(tmp_path: Path) -> None:
    store, (key,) = comparison(tmp_path)
    assert run(store, key) == 0
    before = (store.cell(key) / "result.json").stat()
    assert run(store, key) == worker.BUSY
    assert (store.cell(key) / "result.json").stat().st_mtime_ns == before.st_mtime_ns
    assert len(store.attempts(key)) == 1


def test_a_cell_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    store, (key,) = comparison(tmp_path)
    lease = Lease.take(store.cell(key))
    assert lease is not None
    assert run(store, key) == worker.BUSY
    lease.release()


@pytest.mark.parametrize("step", [1, 2, 4, 6, 9, 10])
def test_a_killed_cell_goes_on_and_its_result_is_that_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    store, (key,) = comparison(tmp_path / "undisturbed", steps=10)
    assert run(store, key) == 0
    disturbed, (same,) = comparison(tmp_path / "disturbed", steps=10)
    assert same == key
    kill_at(monkeypatch, step, disturbed, key)
    assert disturbed.state(key) == "waiting"
    assert run(disturbed, key) == 0
    assert len(disturbed.attempts(key)) == 2
    resumed = list(disturbed.attempts(key)[1].glob("*/*/config*.yaml"))
    assert ("attempts/2/Softmax/seed_0/checkpoints/last.ckpt" in resumed[0].read_text()) is (step > 1)
    for name in ("scores", "sets", "steps", "parameters", "metric"):
        assert result(disturbed, key)[name] == result(store, key)[name], name
    assert curve(disturbed, key) == curve(store, key)


def test_the_best_checkpoint_of_a_killed_attempt_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The score of this training only falls: its best checkpoint is of the first validation, before the kill.
    store, (key,) = comparison(tmp_path / "undisturbed", steps=10)
    assert run(store, key) == 0
    scores = [float(row["score"]) for row in curve(store, key) if row["score"]]
    assert scores[0] == max(scores)
    disturbed, _ = comparison(tmp_path / "disturbed", steps=10)
    kill_at(monkeypatch, 6, disturbed, key)
    assert run(disturbed, key) == 0
    assert result(disturbed, key)["scores"] == result(store, key)["scores"]


def test_the_curve_is_of_the_whole_training_where_an_early_checkpoint_is_the_best(tmp_path: Path) -> None:
    store, (key,) = comparison(tmp_path, steps=10)
    assert run(store, key) == 0
    rows = curve(store, key)
    assert [int(row["step"]) for row in rows] == list(range(1, 11))
    assert result(store, key)["steps"] == 10


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, (key,) = comparison(tmp_path, steps=10)
    kill_at(monkeypatch, 6, store, key)
    (last,) = store.cell(key).glob("attempts/1/*/*/checkpoints/last.ckpt")
    last.write_bytes(last.read_bytes()[:-100])
    assert run(store, key) == 0


def test_a_result_of_a_worker_that_was_taken_for_dead_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (key,) = comparison(tmp_path)
    published = Lease.publish

    def late(self: Lease, content: dict[str, Any]) -> None:
        if self.token == 1:
            lease = leases.read(self.folder)
            leases.write_json(self.folder / "lease.json", {**lease, "heartbeat": 0.0})
            assert run(store, key) == 0
            content = {**content, "scores": {}}
        published(self, content)

    monkeypatch.setattr(Lease, "publish", late)
    assert run(store, key) == worker.BUSY
    assert result(store, key)["scores"]
    assert result(store, key)["curve"].startswith("attempts/2/")
    assert store.failures(key) == []


def test_a_failure_is_recorded_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, (key,) = comparison(tmp_path, flags=(*FLAGS, *HISTORY))
    assert run(store, key) == 2
    (failure,) = store.failures(key)
    assert "validation logs no 'val/nothing'" in failure["reason"]
    assert failure["reason"] in failure["tail"]
    assert store.state(key) == "again"


def test_a_cell_is_not_run_by_other_code_than_it_is_named_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (key,) = comparison(tmp_path)
    monkeypatch.setattr(training, "code_version", lambda: "other")
    assert run(store, key) == 2
    assert store.failures(key)[0]["reason"].startswith("the code has changed since this cell was planned")
    assert store.entry(key).result is None


def test_a_fault_of_the_program_is_a_failure_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, (key,) = comparison(tmp_path)

    def fault(self: Recorder, *args: Any) -> None:
        raise RuntimeError("a fault\nof the program")

    monkeypatch.setattr(Recorder, "on_train_batch_end", fault)
    assert run(store, key) == 1
    (failure,) = store.failures(key)
    assert failure["reason"] == "RuntimeError: a fault"
    assert "Traceback" in (store.attempts(key)[0] / "log.txt").read_text()
    assert not leases.held(store.cell(key))


def test_a_full_disk_is_no_failure_of_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store, (key,) = comparison(tmp_path)

    def full(self: Recorder, *args: Any) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(Recorder, "on_train_batch_end", full)
    assert run(store, key) == worker.DISK_FULL
    assert capfd.readouterr().err.endswith("error: somewhere: No space left on device\n")
    assert store.state(key) == "waiting"


@pytest.mark.parametrize(("steps", "every"), [(500, 100), (9, 3), (11, 11), (8, 2)])
def test_validations_are_at_equal_distances_and_at_the_end(steps: int, every: int) -> None:
    (found,) = validations({"trainer": {"val_check_interval": None}}, steps)
    assert isinstance(found, Validations)
    assert found.every == every


def test_an_interval_of_the_configuration_stays() -> None:
    assert validations({"trainer": {"val_check_interval": 7}}, 500) == []


def test_intervals_are_checked() -> None:
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Validations(0)


@pytest.mark.parametrize("step", [None, 3, 4, 5])
def test_validations_count_steps_where_gradients_are_accumulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int | None
) -> None:
    """Also where an epoch of three batches, so of two steps, is no multiple of the accumulated batches."""
    flags = (*FLAGS, "--trainer.accumulate_grad_batches=2", "--data.steps_per_epoch=3")
    store, (key,) = comparison(tmp_path, steps=10, flags=flags)
    if step is not None:
        kill_at(monkeypatch, step, store, key)
    assert run(store, key) == 0
    assert [int(row["step"]) for row in curve(store, key) if row["score"]] == [2, 4, 6, 8, 10]
    assert result(store, key)["steps"] == 10


def test_a_validation_that_a_signal_ends_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, (key,) = comparison(tmp_path, steps=10)
    whole = Recorder.on_train_batch_end

    def end(self: Recorder, trainer: Any, *args: Any) -> None:
        whole(self, trainer, *args)
        if trainer.global_step == 4:
            WATCH.number = signal.SIGTERM

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_train_batch_end", end)
        assert run(store, key) == 128 + signal.SIGTERM
    assert "at step 4" in (store.attempts(key)[0] / "log.txt").read_text()
    assert run(store, key) == 0
    assert [int(row["step"]) for row in curve(store, key) if row["score"]] == [2, 4, 6, 8, 10]


def test_paths_of_checkpoints_move_with_their_folder() -> None:
    state = {"dirpath": "/a/b", "best": "/a/b/best.ckpt", "kept": {"/a/b/best.ckpt": 1.0}, "other": "/a/bc", "n": 2}
    expected = {"dirpath": "/x", "best": "/x/best.ckpt", "kept": {"/x/best.ckpt": 1.0}, "other": "/a/bc", "n": 2}
    assert moved(state, "/a/b", "/x") == expected


def test_a_label_is_the_name_of_a_folder() -> None:
    assert [slug(label) for label in ("Local:window=8", "a.B", "[1, 2]", "..")] == [
        "Local_window=8",
        "a.B",
        "1_2",
        "cell",
    ]


def test_cell_descriptions_are_json(tmp_path: Path) -> None:
    store, (key,) = comparison(tmp_path)
    told = json.loads((store.cell(key) / "cell.json").read_text())
    assert (told["steps"], told["label"], told["refusal"]) == (6, "Softmax", None)
    assert os.path.isabs(store.comparison()["folder"])
