"""Executors of clusters: what they start, how it ends, and what they refuse."""

import os
import pickle
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tabattn.compare.dask import Dask
from tabattn.compare.executors import Executor, executor_of, threads_for
from tabattn.compare.remote import LOST, Ended, Work, environment
from tabattn.compare.runner import Runner, Signals
from tabattn.compare.slurm import Slurm, slurm_options
from tests.compare.tiny import comparison

TIME = 240.0
"""Seconds to wait for what takes one."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a comparison, whose cells are stubs."""
    monkeypatch.setattr("tabattn.compare.remote.WORKER", (str(Path(__file__).with_name("stub_worker.py")),))
    (tmp_path / "comparison.json").write_text("{}")
    return tmp_path


def until(found: Path) -> None:
    """Wait for a file."""
    end = time.monotonic() + TIME
    while not found.exists():
        assert time.monotonic() < end, found
        time.sleep(0.05)


def ended(executor: Executor, count: int) -> dict[str, tuple[int, str]]:
    """Wait for workers to end."""
    found: dict[str, tuple[int, str]] = {}
    end = time.monotonic() + TIME
    while len(found) < count:
        assert time.monotonic() < end, found
        found |= {each.key: (each.returncode, each.reason) for each in executor.poll()}
        time.sleep(0.05)
    return found


def test_work(folder: Path) -> None:
    assert Work(folder, "exits-3", "dask", 2)() == Ended(3, "")
    assert (folder / "exits-3.txt").read_text() == "2 --executor dask"
    (folder / "comparison.json").unlink()
    code, reason = Work(folder, "exits-0", "dask", 2)()
    assert code == 2
    assert reason.endswith(f"does not see {folder}: the folder must be shared")


def test_work_that_is_stopped(folder: Path) -> None:
    stop = folder / "stop"
    work = Work(folder, "waits", "dask", 1, stop)
    found: list[Ended] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    until(folder / "begun")
    stop.touch()
    thread.join(TIME)
    assert found == [Ended(143, "")]


def test_slurm_announces_the_end_of_a_job(folder: Path) -> None:
    """The signal ends submitit's process, which has the cell save its training first, and queues the same again."""
    work = Work(folder, "waits", "slurm", 2)
    found: list[Ended] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    until(folder / "begun")
    process = work._process
    assert process is not None
    os.kill(process.pid, signal.SIGUSR2)
    time.sleep(0.2)
    assert process.poll() is None
    again = work.checkpoint()
    thread.join(TIME)
    assert found == [Ended(143, "")]
    assert vars(again.function) == vars(Work(folder, "waits", "slurm", 2))
    assert vars(pickle.loads(pickle.dumps(work))) == vars(again.function)


def test_a_cell_is_no_task_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would take its world size from Slurm."""
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    made = environment(3)
    assert made["OMP_NUM_THREADS"] == "3"
    assert not [name for name in made if name.startswith(("SLURM", "SUBMITIT"))]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Dask workers in this process: two, of one thread each."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as made:
        yield made


def test_dask(folder: Path, cluster: Any) -> None:
    executor = Dask(folder, cluster.scheduler_address, 1)
    assert executor.slots == 2
    for number in (0, 3, 75):
        executor.submit(f"exits-{number}")
    assert ended(executor, 3) == {f"exits-{number}": (number, "") for number in (0, 3, 75)}
    executor.submit("waits")
    until(folder / "begun")
    executor.stop()
    assert sorted(path.name for path in folder.iterdir()) == [
        *("begun", "comparison.json", "exits-0.txt", "exits-3.txt", "exits-75.txt", "saved", "waits.txt")
    ]


def test_dask_with_a_folder_that_is_not_shared(folder: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabattn.compare.dask.read", lambda path: None)
    with pytest.raises(ValueError, match=rf"worker \S+ does not see {folder}: --out must be a folder that all"):
        Dask(folder, cluster.scheduler_address, 1)
    assert [path.name for path in folder.iterdir()] == ["comparison.json"]


def test_dask_without_a_scheduler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tabattn.compare.dask.ANSWER", 0.5)
    with pytest.raises(ValueError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"):
        Dask(folder, "tcp://127.0.0.1:9", 1)
    with pytest.raises(ValueError, match="give the address of the scheduler"):
        Dask(folder, "", 1)


def test_dask_without_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("tabattn.compare.dask.ANSWER", 2.0)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="tcp") as empty,
        pytest.raises(ValueError, match="has no worker: start dask worker there"),
    ):
        Dask(folder, empty.scheduler_address, 1)


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_slurm(folder: Path) -> None:
    """By submitit's executor for debugging, which runs jobs in this process."""
    executor = Slurm(folder, {"cores": 3, "partition": "short"}, kind="debug")
    assert executor.slots == 200
    executor.submit("exits-3")
    executor.submit("exits-0")
    assert ended(executor, 2) == {"exits-3": (3, ""), "exits-0": (0, "")}
    assert (folder / "exits-3.txt").read_text() == "3 --executor slurm"


def test_a_job_without_a_result_was_lost(folder: Path) -> None:
    executor = Slurm(folder, {}, kind="debug")

    class Job:
        job_id, state = "17", "TIMEOUT"

        def done(self) -> bool:
            return True

        def result(self) -> None:
            raise RuntimeError("has not produced any output\nand so on")

    executor._jobs["k"] = Job()
    assert executor.poll() == [("k", LOST, "job 17 ended as TIMEOUT: has not produced any output")]
    assert executor.poll() == []


SBATCH = """#!/bin/bash
script="${@: -1}"
grep '^#SBATCH' "$script" > "$FAKE/flags"
SLURM_JOB_ID=7 SLURM_LOCALID=0 SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_NNODES=1 SLURM_NODEID=0 \
  SLURM_JOB_NODELIST=here nohup bash "$script" > "$FAKE/log" 2>&1 &
echo "Submitted batch job 7"
"""
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do case "$1" in --output|--error) shift 2;; *) shift;; esac; done
exec "$@"
"""


def test_slurm_by_its_commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for sbatch, srun and sacct: flags of the job, and a worker that finds no such cell."""
    pytest.importorskip("submitit")
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", "#!/bin/bash\n"), ("scancel", "#!/bin/bash\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (folder / "comparison.json").unlink()
    executor = Slurm(folder, slurm_options("partition=gpu:minutes=60:memory_gb=1.5:gpus=1:cores=3:account=me"))
    executor.submit("none")
    ((code, reason),) = ended(executor, 1).values()
    assert code == 2
    assert reason.endswith("the folder must be shared")
    flags = (folder / "flags").read_text()
    for flag in ("partition=gpu", "time=60", "mem=1536MB", "gpus-per-node=1", "cpus-per-task=3", "account=me"):
        assert f"--{flag}\n" in flags
    assert "--signal=USR2@90" in flags


def test_slurm_needs_its_commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="there is no sbatch here: start on a machine that submits jobs"):
        executor_of("slurm", folder, 1, gpu=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ray", r"--executor must be local, local=SLOTS, slurm, slurm:OPTIONS or dask=ADDRESS, got 'ray'"),
        ("localx", "got 'localx'"),
        ("local=0", "SLOTS must be at least 1"),
        ("slurm:partitions=x", r"takes partition=, .* got 'partitions=x'"),
        ("slurm:partition", "got 'partition'"),
        ("slurm:minutes=long", r"minutes must be a number \(int\), got 'long'"),
        ("slurm:gpus=0", "gpus must be greater than 0, got 0"),
    ],
)
def test_refusals(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        threads_for(text, gpu=False)


def test_threads() -> None:
    texts = ("slurm", "slurm:cores=5", "dask=tcp://x:1", "local=1000")
    assert [threads_for(text, gpu=False) for text in texts] == [2, 5, 1, 1]


@pytest.mark.parametrize(
    ("text", "module", "extra"), [("slurm", "submitit", "slurm"), ("dask=x", "distributed", "cluster")]
)
def test_missing_extras(text: str, module: str, extra: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"the package {module} is missing: pip install 'tabattn\[{extra}\]'"):
        executor_of(text, folder, 1, gpu=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_comparison_on_two_dask_workers(tmp_path: Path) -> None:
    """One of which is killed: no cell is lost, and none has two results."""
    distributed = pytest.importorskip("distributed")
    store, keys = comparison(tmp_path / "compared", ("Softmax", "Linear"), seeds=2)
    said: list[str] = []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as made:
        executor = Dask(store.folder, made.scheduler_address, 1)
        workers = list(executor.client.run(os.getpid).values())
        assert len(workers) == 2

        def kill() -> None:
            until(store.cell(keys[0]) / "lease.json")
            os.kill(workers[0], signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        Runner(store, keys, executor, Signals(), said.append).run()
        thread.join()
    assert [store.state(key) for key in keys] == ["done"] * 4
    assert sum(len(store.attempts(key)) for key in keys) <= 5
