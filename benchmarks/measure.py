"""Measurement of time and peak memory on a device, and provenance of a report."""

import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from tabattn.contract.batches import PairBatch

Step = Callable[[], object]

COMMIT_VARIABLE = "TABATTN_COMMIT"


def median_seconds(
    steps: Mapping[str, Step], repeats: int, device: torch.device, budget: float = math.inf
) -> dict[str, float]:
    """Median time of steps, measured in turns, so that other load of the machine affects all alike.

    Args:
        steps: Functions to time, by name.
        repeats: Rounds over all steps, after a warm-up round.
        device: Device of the steps; a GPU is timed by events, others by the clock.
        budget: Seconds after which a step is skipped in the remaining rounds. If its first run takes longer, that is
            its only one, and counts.

    Returns:
        The median of each step in seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            if sum(seconds[name]) > budget:
                continue
            taken = seconds_of(step, device)
            if turn or taken > budget:
                seconds[name].append(taken)
    return {name: statistics.median(values) for name, values in seconds.items()}


def seconds_of(step: Step, device: torch.device) -> float:
    """Run a step once, and return its seconds; the device is synchronised before and after."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        begin.record()
        step()
        end.record()
        torch.cuda.synchronize(device)
        return begin.elapsed_time(end) / 1e3
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def on_device(batch: PairBatch, device: torch.device) -> PairBatch:
    """Copy the points of a batch to a device; the oracle stays where it is."""
    return batch._replace(x=batch.x.to(device), y=batch.y.to(device), member=batch.member.to(device))


def provenance(device: torch.device) -> str:
    """Provenance in one sentence: machine, version of torch, and commit.

    The environment variable ``TABATTN_COMMIT`` names the commit of sources without a repository.
    """
    commit, changed = os.environ.get(COMMIT_VARIABLE), ""
    if not commit:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = " with uncommitted changes" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{_machine(device)}, torch {torch.__version__}, commit {commit}{changed}"


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {torch.get_num_threads()} threads"


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() or ("" if arguments[0] == "status" else "unknown")
