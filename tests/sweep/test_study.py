"""Study of a sweep: trials are claimed once, those of killed workers again, and the whole is repeatable."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tabattn.compare.leases import Lease, here, write_json
from tabattn.sweep.folder import Folder
from tabattn.sweep.study import Claims, counted, load
from tests.sweep.stubs import Computed, score, sweep


def params(folder: Folder) -> list[dict[str, Any]]:
    """Values of the trials that count, in order."""
    return [each.params for each in counted(load(folder).get_trials())]


def ended_process() -> int:
    """Number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
    return process.pid


def desert(folder: Folder, number: int) -> None:
    """Make the worker of a trial one that was killed."""
    file = folder.trial(number) / "lease.json"
    lease = json.loads(file.read_text())
    lease["holder"] |= {"pid": ended_process(), "started": "1"}
    write_json(file, lease)


def test_the_sampler_learns(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    Computed(folder, 25).run()
    scores = [score(each) for each in params(folder)]
    assert len(scores) == 25
    assert max(scores) > 0.2
    assert sum(scores[15:]) > sum(scores[:10])


def test_a_seed_is_a_sweep(tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folder = sweep(tmp_path / name, seed=seed)
        Computed(folder, 8).run()
        found.append(params(folder))
    assert found[0] == found[1] != found[2]


def test_a_killed_worker_leaves_its_trial_to_the_next(tmp_path: Path) -> None:
    undisturbed, folder = sweep(tmp_path / "a"), sweep(tmp_path / "b")
    Computed(undisturbed, 9).run()
    Computed(folder, 4).run()
    claimed = Claims(folder, 9).claim()
    assert not isinstance(claimed, str)
    assert claimed[0].number == 4
    desert(folder, 4)
    lines = Computed(folder, 9).run()
    assert params(folder) == params(undisturbed)
    trials = load(folder).get_trials()
    assert len(trials) == 10
    assert trials[4].user_attrs["again"] == "its worker was killed"
    assert trials[5].params == trials[4].params
    assert len(lines) == 5


def test_a_living_worker_keeps_its_trial(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    claims = Claims(folder, 2)
    first, second = claims.claim(), claims.claim()
    assert not isinstance(first, str)
    assert not isinstance(second, str)
    assert (first[0].number, second[0].number) == (0, 1)
    assert claims.claim() == "wait"
    assert claims.finish(first[0], "COMPLETE", 1.0)
    assert claims.claim() == "wait"
    assert claims.finish(second[0], "COMPLETE", 2.0)
    assert claims.claim() == "done"


def test_a_worker_that_was_taken_for_dead_records_nothing(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    claims = Claims(folder, 1)
    first = claims.claim()
    assert not isinstance(first, str)
    desert(folder, 0)
    second = claims.claim()
    assert not isinstance(second, str)
    assert second[0].params == first[0].params
    assert not claims.finish(first[0], "COMPLETE", 9.0)
    assert claims.finish(second[0], "COMPLETE", 1.0)
    assert load(folder).best_value == 1.0


def test_a_trial_that_kills_its_workers_fails(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    claims = Claims(folder, 1)
    for number in range(3):
        assert not isinstance(claims.claim(), str)
        desert(folder, number)
    assert claims.claim() == "done"
    (trial,) = counted(load(folder).get_trials())
    assert (trial.number, trial.state.name, trial.user_attrs["reason"]) == (2, "FAIL", "its worker was killed")


def test_a_worker_killed_within_a_claim(tmp_path: Path) -> None:
    """Before its lease; with and without the values drawn."""
    folder = sweep(tmp_path)
    study = load(folder)
    study.ask()
    Computed(folder, 2).run()
    study.ask({each.flag: each.distribution() for each in Claims(folder, 1).space})
    Computed(folder, 4).run()
    assert len(params(folder)) == 4
    assert all(each.state.name == "COMPLETE" for each in counted(load(folder).get_trials()))


def test_no_combination_twice(tmp_path: Path) -> None:
    folder = sweep(tmp_path, ["model.dim=8..32:8", "optimizer.lr=0.1,0.01"])
    lines = Computed(folder, 20, lambda params: float(params["model.dim"])).run()
    found = params(folder)
    assert len(found) == 8
    assert len({tuple(each.items()) for each in found}) == 8
    assert lines[-1] == "every combination was tried"


def test_workers_share_a_study(tmp_path: Path) -> None:
    folder = sweep(tmp_path)
    workers = [Computed(folder, 12) for _ in range(3)]
    threads = [each.start() for each in workers]
    for thread in threads:
        thread.join(60)
    assert [each.fault for each in workers] == [None] * 3
    found = params(folder)
    assert len(found) == 12
    assert len({tuple(each.items()) for each in found}) == 12
    lines = [line for each in workers for line in each.lines if line.startswith("trial")]
    assert sorted(int(line.split()[1]) for line in lines) == list(range(12))


def test_more_trials_go_on(tmp_path: Path) -> None:
    longer, folder = sweep(tmp_path / "a"), sweep(tmp_path / "b")
    Computed(longer, 9).run()
    Computed(folder, 5).run()
    Computed(folder, 9).run()
    assert params(folder) == params(longer)


def test_settings_are_those_of_the_first(tmp_path: Path) -> None:
    sweep(tmp_path)
    sweep(tmp_path)
    with pytest.raises(ValueError, match=r"holds a sweep with seed 0, not 1: give the same command"):
        sweep(tmp_path, seed=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(ValueError, match="holds notes but no sweep"):
        sweep(tmp_path / "full")


def test_a_lease_of_this_process(tmp_path: Path) -> None:
    """What ``desert`` changes is what a lease holds."""
    lease = Lease.take(tmp_path)
    assert lease is not None
    holder = json.loads((tmp_path / "lease.json").read_text())["holder"]
    assert holder["started"] == here(holder["pid"])["started"] is not None
