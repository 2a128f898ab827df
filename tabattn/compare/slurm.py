"""Executor of a Slurm cluster: a job for each cell, by submitit."""

import importlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabattn.compare.executors import PATIENCE, Finished
from tabattn.compare.remote import LOST, POLL, Ended, Work

OPTIONS: dict[str, tuple[str, type]] = {
    "partition": ("slurm_partition", str),
    "minutes": ("timeout_min", int),
    "memory_gb": ("mem_gb", float),
    "cores": ("cpus_per_task", int),
    "gpus": ("gpus_per_node", int),
    "account": ("slurm_account", str),
    "qos": ("slurm_qos", str),
    "constraint": ("slurm_constraint", str),
    "jobs": ("", int),
}
"""Options of ``slurm``, with submitit's names and the types of the values; ``jobs``: cells submitted at a time."""

JOB: Mapping[str, Any] = {"minutes": 240, "memory_gb": 8.0, "cores": 2, "jobs": 200}
"""Default options of a job."""


class Slurm:
    """Executor that submits a Slurm job for each cell, by submitit.

    The jobs go on if the runner ends without stopping them; the same command again finds their leases and results. A
    job that is preempted or whose time is over is queued again, and goes on from its checkpoint.

    Args:
        folder: Folder of the comparison, which the machines of the cluster share.
        options: Options of a job; see ``OPTIONS``.
        kind: ``slurm``; submitit's ``local`` and ``debug`` run jobs on this machine.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any], kind: str = "slurm") -> None:
        submitit = importlib.import_module("submitit")
        if kind == "slurm" and (lacking := [name for name in ("sbatch", "srun") if shutil.which(name) is None]):
            raise ValueError(f"--executor slurm: there is no {lacking[0]} here: start on a machine that submits jobs")
        self.folder = folder
        self.options = {**JOB, **options}
        self.slots = int(self.options["jobs"])
        self.executor = submitit.AutoExecutor(folder=folder / "slurm", cluster=kind)
        given = {OPTIONS[name][0]: value for name, value in self.options.items() if OPTIONS[name][0]}
        self.executor.update_parameters(name=f"compare {folder.name}", **given)
        self._jobs: dict[str, Any] = {}

    def submit(self, key: str) -> None:
        """Submit the job of a cell."""
        self._jobs[key] = self.executor.submit(Work(self.folder, key, "slurm", int(self.options["cores"])))

    def poll(self) -> list[Finished]:
        """Workers that have ended since the last call."""
        ended = [(key, job) for key, job in self._jobs.items() if job.done()]
        for key, _ in ended:
            del self._jobs[key]
        return [Finished(key, *_ended(job)) for key, job in ended]

    def stop(self) -> None:
        """Cancel all jobs, which save their trainings, and wait for them."""
        for job in self._jobs.values():
            job.cancel(check=False)
        end = time.monotonic() + PATIENCE
        while not all(job.done(force_check=True) for job in self._jobs.values()) and time.monotonic() < end:
            time.sleep(POLL)
        self._jobs.clear()


def _ended(job: Any) -> Ended:
    """How a job ended; one without a result was killed, cancelled, or its time was over."""
    try:
        found: Ended = job.result()
    except Exception as ex:
        text = str(ex).strip().partition("\n")[0]
        return Ended(LOST, f"job {job.job_id} ended as {job.state}: {text}")
    return found


def slurm_options(words: str) -> dict[str, Any]:
    """Options of ``--executor slurm``.

    Args:
        words: Such as ``partition=gpu:minutes=60:gpus=1``.

    Raises:
        ValueError: One is unknown, or its value is wrong.
    """
    found: dict[str, Any] = {}
    for word in filter(None, words.split(":")):
        name, _, value = word.partition("=")
        if name not in OPTIONS or not value:
            raise ValueError(f"--executor slurm takes {', '.join(f'{each}=' for each in OPTIONS)}, got {word!r}")
        try:
            found[name] = OPTIONS[name][1](value)
        except ValueError:
            kind = OPTIONS[name][1].__name__
            raise ValueError(f"--executor slurm: {name} must be a number ({kind}), got {value!r}") from None
        if not isinstance(found[name], str) and not found[name] > 0:
            raise ValueError(f"--executor slurm: {name} must be greater than 0, got {value}")
    return found
