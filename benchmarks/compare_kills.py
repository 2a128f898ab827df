"""Robustness of comparisons against SIGKILL: ``python -m benchmarks.compare_kills --folder DIR``.

A comparison of tiny trainings is run undisturbed. Then it is run again, and every few seconds a worker or the runner,
drawn at random, is killed; a runner that was killed is started anew, by ``--out`` alone. At the end each cell must have
one result, equal to that of the undisturbed run bit for bit: scores, learning curve and attention maps.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.reports import add_out, check_least, check_positive, publish, writable_folder
from tabattn.compare import leases, machine
from tabattn.compare.store import Store

ROOT = Path(__file__).parents[1]
MECHANISMS = "Softmax,Local:window=4,Linear,TopK,Entmax"
NETWORK = ("dim=16", "hidden=32", "heads=2", "layers=2")
DATA = ("batch_size=4", "steps_per_epoch=20", "rows=[10,20]", "features=[2,4]", 'tables=["sklearn:iris"]')
FLAGS = [
    *("--config", str(ROOT / "configs" / "prior.yaml"), "--attention", MECHANISMS, "--no-timing"),
    *(f"--model.network.{option}" for option in NETWORK),
    *(f"--data.{option}" for option in DATA),
    *("--data.batches.grow=0", "--data.num_workers=0", "--trainer.accelerator=cpu"),
]

EXACT = ("scores", "sets", "metric", "steps", "parameters")
"""Parts of a result that are equal in any run; times and memory are not."""


class Disturbance(NamedTuple):
    """What happened in the disturbed run.

    Attributes:
        kills: Kills of the runner and of workers.
        seconds: Seconds of the run.
    """

    kills: Counter[str]
    seconds: float


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare_kills", description=__doc__, allow_abbrev=False)
    parser.add_argument("--folder", type=writable_folder, required=True, help="folder of the two comparisons")
    parser.add_argument("--seeds", type=int, default=4, help="seeds of the five mechanisms (default: 4, so 20 cells)")
    parser.add_argument("--steps", type=int, default=200, help="steps of each training (default: 200)")
    parser.add_argument("--every", type=float, default=20.0, help="mean seconds between two kills (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of what is killed (default: 0)")
    add_out(parser, "compare_kills.md")
    options = parser.parse_args(argv)
    check_least(parser, options, seeds=1, steps=1, seed=0)
    check_positive(parser, options, "every")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run both comparisons, and write the report; the exit status is 1 if a cell was lost, doubled or differs."""
    options = arguments(argv)
    flags = [*FLAGS, "--seeds", str(options.seeds), "--budget", f"{options.steps}steps"]
    calm, wild = options.folder / "undisturbed", options.folder / "disturbed"
    start(calm, flags).wait()
    found = disturb(wild, flags, options.every, random.Random(options.seed))
    faults = compared(Store(calm), Store(wild))
    text = report(found, Store(wild), faults, options)
    publish(text, options.out)
    sys.stdout.write(text)
    return int(any(faults.values()))


def start(folder: Path, flags: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start the runner of a comparison."""
    command = [sys.executable, "-m", "tabattn.compare", "--out", str(folder), *flags]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(command, env=machine.environment(1), stdout=log, stderr=log)


def disturb(folder: Path, flags: Sequence[str], every: float, moments: random.Random) -> Disturbance:
    """Run a comparison to its end, and kill its processes now and then."""
    kills: Counter[str] = Counter()
    began, store, runner = time.monotonic(), Store(folder), start(folder, flags)
    while True:
        try:
            runner.wait(moments.uniform(0.5, 1.5) * every)
            return Disturbance(kills, time.monotonic() - began)
        except subprocess.TimeoutExpired:
            pass
        workers = pids(store)
        if workers and moments.random() < 0.7:
            os.kill(moments.choice(workers), signal.SIGKILL)
            kills["worker"] += 1
        else:
            runner.kill()
            runner.wait()
            kills["runner"] += 1
            runner = start(folder, ["--no-timing"] if store.exists else flags)


def pids(store: Store) -> list[int]:
    """Numbers of the processes that hold leases."""
    folders = [store.cell(key) for key in store.comparison().get("cells", [])]
    return sorted(leases.read(folder)["holder"]["pid"] for folder in folders if leases.held(folder))


def compared(calm: Store, wild: Store) -> dict[str, list[str]]:
    """Cells of the disturbed run that are lost, that went on after their result, and whose result differs."""
    faults: dict[str, list[str]] = {"lost": [], "doubled": [], "different": []}
    for key in calm.comparison()["cells"]:
        expected, found = calm.entry(key).result, wild.entry(key).result
        assert expected is not None, f"the undisturbed run has no result of {key}"
        if found is None or key not in wild.comparison()["cells"]:
            faults["lost"].append(key)
            continue
        if Path(found["curve"]).parts[1] != wild.attempts(key)[-1].name:
            faults["doubled"].append(key)
        if exact(calm.cell(key), expected) != exact(wild.cell(key), found):
            faults["different"].append(key)
    faults["doubled"] += sorted({*wild.comparison()["cells"]} - {*calm.comparison()["cells"]})
    return faults


def exact(folder: Path, result: dict[str, Any]) -> str:
    """What is equal in any run of a cell, as text."""
    with (folder / result["curve"]).open() as file:
        curve = [[row[name] for name in ("step", "loss", "score")] for row in csv.DictReader(file)]
    maps = {name: each.tobytes().hex() for name, each in np.load(folder / result["maps"]).items()}
    return json.dumps([{name: result[name] for name in EXACT}, curve, maps], sort_keys=True)


def report(found: Disturbance, wild: Store, faults: dict[str, list[str]], options: argparse.Namespace) -> str:
    """Text of the report."""
    entries = wild.cells()
    attempts = [len(wild.attempts(entry.key)) for entry in entries]
    rows = [
        ("cells", len(entries)),
        ("kills of a worker", found.kills["worker"]),
        ("kills of the runner", found.kills["runner"]),
        ("attempts of all cells; most of one", f"{sum(attempts)}; {max(attempts)}"),
        ("cells without a result", len(faults["lost"])),
        ("cells run again after their result", len(faults["doubled"])),
        ("cells whose scores, curve or maps differ from the undisturbed run", len(faults["different"])),
    ]
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        "# Comparisons under kills\n\n"
        f"`python -m benchmarks.compare_kills --folder DIR --seeds {options.seeds} --steps {options.steps} "
        f"--every {options.every:g} --seed {options.seed}`: a worker or the runner killed by SIGKILL every "
        f"{options.every:g} seconds on average, for {found.seconds:.0f} seconds; {machine.cpu()}, "
        f"{machine.cores()} cores.\n\n| | |\n| --- | --: |\n{lines}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
