r"""Hyperparameter sweep with Optuna over any flag of the command line.

Each trial is a training in a process of its own; the sampler (TPE) proposes the values of the tuned flags, and trials
behind the median of the others are stopped early. The same command again goes on with the sweep, also while it runs:
then both share the trials. Further flags go to the command line of every trial.

  python -m tabattn.sweep --config configs/prior.yaml --tune optimizer.lr=log:1e-4..1e-1 \
    --tune model.network.dim=32,64,96 --tune model.attention=Softmax,Local --trials 20 --budget 200steps --out sweep

Writes trials.csv, best.yaml (a configuration for train.py) and sweep.png into the folder.
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tabattn.compare.cells import resolved
from tabattn.compare.machine import cores
from tabattn.compare.plan import budget_of
from tabattn.contract.extras import missing
from tabattn.storage.files import disk_problem, path_problem
from tabattn.sweep import report
from tabattn.sweep.folder import Folder, Settings
from tabattn.sweep.runner import Worker
from tabattn.sweep.space import Parameter, arguments, parameter
from tabattn.sweep.study import Claims, load

FLAGS = ("seed_everything", "trainer", "model", "data", "run", "checkpoint", "guard", "optimizer", "lr_scheduler")
"""Flags of ``train.py`` that a trial takes, without what follows a dot."""

OWN = ("run", "trainer.max_steps", "trainer.max_epochs", "trainer.max_time")
"""Flags that the sweep sets itself."""


class Terminated(BaseException):
    """SIGTERM, or another signal that asks the process to end.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Options(argparse.ArgumentParser):
    """Parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def parser() -> Options:
    """Return the parser of the sweep's own flags."""
    made = Options("python -m tabattn.sweep", description=__doc__, allow_abbrev=False)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--config", action="append", required=True, help="configuration of the training, as of train.py")
    made.add_argument(
        "--tune",
        action="append",
        required=True,
        metavar="FLAG=VALUES",
        help="a flag, and LOW..HIGH (integers if both are), LOW..HIGH:STEP, log:LOW..HIGH, or a list A,B,C",
    )
    made.add_argument("--trials", type=int, required=True, help="number of trials; more go on with a finished sweep")
    made.add_argument("--budget", required=True, help="length of a trial: 200steps, or 60s (CPU seconds on a CPU)")
    made.add_argument("--out", type=Path, required=True, help="folder of the sweep, which several machines may share")
    made.add_argument("--workers", type=int, default=1, help="trials at once in this process")
    made.add_argument("--metric", help="validation metric; by default checkpoint.monitor of the configuration")
    made.add_argument("--mode", choices=("max", "min"), help="whether it is to be large; default: checkpoint.mode")
    made.add_argument("--validations", type=int, default=5, help="validations of a trial, evenly spaced")
    made.add_argument("--no-prune", action="store_true", help="run every trial to its end")
    made.add_argument("--seed", type=int, default=0, help="seed of the sampler")
    made.add_argument("--allow", action="append", default=[], help="package of your own, as of train.py")
    return made


def settings_of(options: argparse.Namespace, further: Sequence[str]) -> Settings:
    """Check a command line, and return the settings of its sweep.

    Raises:
        ValueError: It is wrong.
    """
    for name, least in (("trials", 1), ("workers", 1), ("validations", 1)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(options, name)}")
    for word in further:
        name = word.removeprefix("--").partition("=")[0].rstrip("+")
        if not word.startswith("--") or name.split(".")[0] not in FLAGS or "=" not in word:
            raise ValueError(f"unrecognized argument: {word}; flags of a training are given as --model.x=y")
        _refuse_own(name)
    space = [parameter(text) for text in options.tune]
    for number, each in enumerate(space):
        _refuse_own(each.flag)
        if any(word.startswith(f"--{each.flag}=") for word in further):
            raise ValueError(f"--{each.flag} is given and tuned: leave out one")
        if each.flag in [other.flag for other in space[:number]]:
            raise ValueError(f"--tune {each.flag} is given twice")
    length = budget_of(options.budget)
    flags = [*(f"--config={each}" for each in options.config), *(f"--allow={each}" for each in options.allow), *further]
    config = _checked(flags, space)
    monitor = config["checkpoint"]["monitor"]
    metric = options.metric or monitor
    if metric is None:
        raise ValueError("--metric: the configuration has no checkpoint.monitor, so name the metric")
    mode = options.mode or (config["checkpoint"]["mode"] if metric == monitor else None)
    if mode is None:
        raise ValueError(f"--mode: max or min must be given for {metric}, as the configuration monitors {monitor}")
    return Settings(flags, options.tune, length, metric, mode, options.validations, not options.no_prune, options.seed)


def _refuse_own(name: str) -> None:
    if name in OWN or name.startswith("run."):
        raise ValueError(f"--{name} is set by the sweep itself, by --budget and --out")


def _checked(flags: Sequence[str], space: Sequence[Parameter]) -> dict[str, Any]:
    """Parse the command line of a trial with each value of a list, and the ends of each range.

    Returns:
        Configuration with the first values.

    Raises:
        ValueError: ``train.py`` would refuse it.
    """
    first = {each.flag: each.choices[0] if each.choices else each.low for each in space}
    config: dict[str, Any] = {}
    for each in space:
        for value in each.choices or (each.low, each.high):
            found, problem = resolved(arguments(flags, {**first, each.flag: value}))
            if found is None:
                raise ValueError(problem)
            config = config or found.plain
    return config


def sweep(options: argparse.Namespace, further: Sequence[str]) -> int:
    """Run the trials, and write the results; return the exit status."""
    importlib.import_module("optuna")
    folder = Folder(options.out)
    folder.agree(settings_of(options, further))
    load(folder)
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // options.workers))
    workers = [Worker(folder, Claims(folder, options.trials), threads, _say) for _ in range(options.workers)]
    running = [each.start() for each in workers]
    try:
        while any(thread.is_alive() for thread in running):
            for thread in running:
                thread.join(0.2)
    except (KeyboardInterrupt, Terminated):
        for worker in workers:
            worker.stopped.set()
        for thread in running:
            thread.join()
        sys.stderr.write("interrupted: the same command goes on with the sweep\n")
        raise
    if fault := next((each.fault for each in workers if each.fault is not None), None):
        raise fault
    text = report.write(folder)
    _say(text)
    return 0 if (options.out / "best.yaml").exists() else 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _terminated(number: int, _: Any) -> NoReturn:
    raise Terminated(number)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    Args:
        words: Arguments; None = those of the process.

    Returns:
        Exit status: 0 done, 1 no trial is complete, 2 wrong use, 3 disk error, 130 SIGINT, 143 SIGTERM.
    """
    options, further = parser().parse_known_args(words)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return sweep(options, further)
    except KeyboardInterrupt:
        return 130
    except Terminated as ex:
        return 128 + ex.number
    except (ValueError, ImportError, OSError) as ex:
        text, status = (str(ex), 2) if isinstance(ex, ValueError) else (missing(ex), 2)
        if isinstance(ex, OSError):
            text, status = disk_problem(ex) or path_problem(ex), 3
        if text is None:
            raise
        sys.stderr.write(f"error: {text}\n")
        return status


if __name__ == "__main__":
    sys.exit(main())
