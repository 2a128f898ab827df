"""Single training of ``benchmarks.adult``: ``python -m benchmarks.adult_run <source> --attention Local --folder x``.

Trains by ``configs/experiments/adult.yaml`` for a number of seconds or steps, and scores the network. Writes into the
folder the configuration, ``history.csv``, ``last.ckpt`` and at the end ``result.json``.
Further arguments go to the command line of the training, such as ``--data.batch_size=8``.
"""

import argparse
import hashlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import callbacks  # noqa: F401  (makes the names of the configuration known)
from benchmarks.protocols import in_context, scores
from benchmarks.reports import QUIET, check_least, check_positive, check_trainings, writable_folder
from datamodules import TableTasks
from tabattn.attention import MECHANISMS
from tabattn.tasks import PriorClassification
from tabattn.training.cli import CLI

CONFIGS = Path(__file__).parents[1] / "configs" / "experiments"
RESULT = "result.json"
CHOSEN = ("--model.attention", "--model.target_attention", "--trainer.max_steps", "--trainer.max_epochs", *QUIET)
"""Arguments that the program sets; further arguments must not."""


def parser(description: str | None, prog: str) -> argparse.ArgumentParser:
    """Argument parser with the options that a single training and the experiment share."""
    shared = argparse.ArgumentParser(prog=f"python -m benchmarks.{prog}", description=description, allow_abbrev=False)
    shared.add_argument("source", help="the table: sklearn:<name>, openml:<id or name> or a file; ::<target> behind it")
    shared.add_argument("--seconds", type=float, default=60.0, help="training time of each run (default: 60)")
    shared.add_argument("--steps", type=int, help="train this many steps in the place of seconds")
    shared.add_argument(
        "--cpu-time", action="store_true", help="count seconds that the process computes, fair on a busy machine"
    )
    shared.add_argument("--honest", action="store_true", help="number the classes of each task anew")
    return shared


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    single = parser(__doc__, "adult_run")
    single.formatter_class = argparse.RawDescriptionHelpFormatter
    single.add_argument("--attention", choices=list(MECHANISMS), required=True, metavar="NAME")
    single.add_argument("--seed", type=int, default=0)
    single.add_argument("--folder", type=writable_folder, required=True, help="where the run leaves its files")
    options, further = single.parse_known_args(argv)
    options.further = check_trainings(single, further, CHOSEN)
    check_least(single, options, steps=1)
    check_positive(single, options, "seconds")
    return options


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Settings that determine the result of a run, as plain values."""
    budget = {"seconds": options.seconds} if options.steps is None else {"steps": options.steps}
    return {"attention": options.attention, **of_tasks(options, options.seed), **budget}


def of_tasks(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Settings that determine the tasks of a seed, as plain values."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in configs(options))).hexdigest()[:12]
    further = list(options.further)
    return {"source": options.source, "seed": seed, "honest": options.honest, "config": digest, "further": further}


def configs(options: argparse.Namespace) -> list[Path]:
    """Configuration files of a run; later ones override earlier ones."""
    over = {"adult_honest": options.honest, "adult_cpu_time": options.cpu_time}
    return [CONFIGS / f"{name}.yaml" for name in ("adult", *(name for name, asked in over.items() if asked))]


def command(options: argparse.Namespace, seed: int) -> list[str]:
    """Arguments of a training that determine its tasks."""
    files = [f"--config={path}" for path in configs(options)]
    tasks = [f"--data.source={options.source}", f"--data.seed={seed}", f"--seed_everything={seed}"]
    return [*files, *tasks, *options.further]


def build(options: argparse.Namespace) -> CLI:
    """Build the network, the tasks and the trainer of a run."""
    mechanism = f"tabattn.attention.{options.attention}"
    chosen = [f"--model.attention={mechanism}"]
    if MECHANISMS[options.attention].cross:
        chosen.append(f"--model.target_attention={mechanism}")
    budget = [f"--trainer.max_steps={-1 if options.steps is None else options.steps}", "--trainer.max_epochs=-1"]
    if options.steps is None:
        budget += ["--trainer.callbacks+=TimeBudget", f"--trainer.callbacks.seconds={options.seconds}"]
        budget += [f"--trainer.callbacks.timing={'cpu' if options.cpu_time else 'wall'}"]
    folder = f"--trainer.default_root_dir={options.folder}"
    return CLI([*command(options, options.seed), *chosen, *budget, folder, *QUIET], run=False)


def start_alike(task: PriorClassification, seed: int) -> None:
    """Initialise the parameters that networks of all attentions share with the same weights, those of Softmax.

    Otherwise a mechanism's own parameters would shift the random numbers of all parameters after them.
    """
    torch.manual_seed(seed)
    network = task.network
    options = {name: value for name, value in network.arguments.items() if not name.endswith("attention")}
    reference = type(network)(**options)
    task.network.load_state_dict(reference.state_dict(), strict=False)


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Train and score a network; return the scores, and means and medians of its history."""
    cli = build(options)
    task, data, trainer = cli.model, cli.datamodule, cli.trainer
    assert isinstance(task, PriorClassification)
    assert isinstance(data, TableTasks)
    start_alike(task, options.seed)
    trainer.fit(task, data)
    trainer.save_checkpoint(options.folder / "last.ckpt")
    history = pd.read_csv(options.folder / "history.csv")
    task.to(trainer.strategy.root_device)
    return {
        **scores(in_context(task), data),
        "steps": int(history["step"].iloc[-1]) + 1,
        "seconds": float(history["cumulative time"].iloc[-1]),
        "step seconds": statistics.median(history["step time"]),
        "peak MB": float(history["peak mem MB"].max()),
    }


def write_result(path: Path, setting: dict[str, Any], result: dict[str, Any]) -> None:
    """Write a result atomically: the file marks the run as finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps({"settings": setting, "result": result}, indent=1) + "\n")
    draft.replace(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Train one network and write its result."""
    options = arguments(argv)
    write_result(options.folder / RESULT, settings(options), train(options))


if __name__ == "__main__":
    main()
