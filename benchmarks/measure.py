"""Time and peak memory on a device, and the words that say where they were measured."""

import json
import math
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from tabattn.contract.batches import PairBatch

Step = Callable[[], object]

COMMIT_VARIABLE = "TABATTN_COMMIT"


def median_seconds(
    steps: Mapping[str, Step], repeats: int, device: torch.device, budget: float = math.inf
) -> dict[str, float]:
    """Time steps in turns, so that whatever else the machine does falls on all of them alike.

    Args:
        steps: What to time, by name.
        repeats: Rounds over all steps, after one that warms up and is not counted.
        device: Where the steps run: a GPU is timed by events in its own queue, anything else by the clock.
        budget: Seconds after which a step sits out the rounds that are left. The first run of a step that alone takes
            longer is its only one, and counts.

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
    """Run a step once and return what it took, with the device idle before and after."""
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


def peak_bytes(step: Step, device: torch.device) -> int:
    """Return the most memory a step holds at one time beyond what was there before, buffers inside kernels included."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # The profiler would write a line at each start and stop.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        watched.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    changes.sort(key=lambda event: event["ts"])
    held = peak = 0
    for change in changes:
        held += change["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def on_device(batch: PairBatch, device: torch.device) -> PairBatch:
    """A batch whose points are on a device; what is known of them stays where it is."""
    return batch._replace(x=batch.x.to(device), y=batch.y.to(device), member=batch.member.to(device))


def provenance(device: torch.device) -> str:
    """Say on which machine, with which torch and at which commit.

    A copy of the sources without their repository is told its commit by the environment variable ``TABATTN_COMMIT``.
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
