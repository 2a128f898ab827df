"""Comparison of attentions on one table, at equal training time: ``python -m benchmarks.adult <source>``.

Tasks are cut from the table as in nanoTabPFN's attention fork, with several seeds, and scores that tell in-context
learning from memorisation. Each training is a separate process; all attentions of a seed precede the next seed.
Finished runs are not repeated, so the same command resumes an interrupted experiment. Writes <out>.md, <out>.csv and
pictures in <out>. Further arguments go to the command line of each training, such as ``--data.batch_size=8``.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.adult_report import REFERENCE, write
from benchmarks.adult_run import CHOSEN, RESULT, build, command, of_tasks, parser, settings, write_result
from benchmarks.baselines import BASELINES
from benchmarks.measure import median_seconds
from benchmarks.protocols import fitted, scores
from benchmarks.reports import FOLDER, add_out, check_least, check_positive, check_trainings, writable_folder
from datamodules import TableTasks
from datamodules.tables.real import load_table
from tabattn.attention import MECHANISMS
from tabattn.contract.errors import DataError
from tabattn.tasks import PriorClassification
from tabattn.training.cli import CLI

ATTENTIONS = ("Softmax", "Scratch", "Sparse", "Local", "Pooling", "Inducing", "Linear")
CLASSICAL = ("random forest (100)", "logistic regression")
FLAGS = {"--honest": "honest", "--cpu-time": "cpu_time"}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    whole = parser(__doc__, "adult")
    whole.formatter_class = argparse.RawDescriptionHelpFormatter
    whole.add_argument("--seeds", type=int, default=3, help="runs of each attention (default: 3)")
    whole.add_argument("--attentions", nargs="+", choices=list(MECHANISMS), default=list(ATTENTIONS), metavar="NAME")
    whole.add_argument("--rows", type=int, nargs="+", default=[40, 100, 500, 1000], help="table sizes for inference")
    whole.add_argument("--tables", type=int, default=10, help="tables in a batch of inference (default: 10)")
    whole.add_argument("--repeats", type=int, default=5, help="timed batches of inference, of which the median counts")
    whole.add_argument(
        "--runs", type=writable_folder, help="folder of the trainings (default: runs/adult or runs/adult_honest)"
    )
    add_out(whole, "adult", [".md", ".csv"])
    whole.set_defaults(out=None)
    options, further = whole.parse_known_args(argv)
    options.further = check_trainings(whole, further, CHOSEN)
    check_least(whole, options, seeds=1, steps=1, tables=1, repeats=1, rows=10)
    check_positive(whole, options, "seconds")
    options.attentions = [name for name in MECHANISMS if name in {REFERENCE, *options.attentions}]
    name = "adult_honest" if options.honest else "adult"
    options.runs = options.runs or Path("runs", name)
    options.out = options.out or FOLDER / name
    return options


def finished(path: Path, setting: dict[str, Any]) -> dict[str, Any] | None:
    """Result of a finished run with the same settings; None if there is none."""
    if not path.exists():
        return None
    stored = json.loads(path.read_text())
    return stored["result"] if stored["settings"] == setting else None


def train(options: argparse.Namespace, attention: str, seed: int) -> dict[str, Any]:
    """Train and score one network in a separate process, unless its result exists."""
    folder = options.runs / attention / f"seed_{seed}"
    wanted = argparse.Namespace(**vars(options), attention=attention, seed=seed)
    result = finished(folder / RESULT, settings(wanted))
    if result is None:
        budget = f"--seconds={options.seconds}" if options.steps is None else f"--steps={options.steps}"
        arguments = [options.source, budget, f"--attention={attention}", f"--seed={seed}", f"--folder={folder}"]
        arguments += [flag for flag, asked in FLAGS.items() if getattr(options, asked)] + options.further
        log = folder / "log.txt"
        status = launch(arguments, log)
        result = finished(folder / RESULT, settings(wanted))
        if status or result is None:
            raise SystemExit(f"{attention}, seed {seed} failed with status {status}: see {log}")
    return result


def launch(arguments: Sequence[str], log: Path) -> int:
    """Run a training in a separate process with its output in a log file; return its exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        command = [sys.executable, "-m", "benchmarks.adult_run", *arguments]
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode


def fit(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Score a classical method on the same tasks, unless its result exists."""
    path = options.runs / name.replace(" ", "_") / f"seed_{seed}" / RESULT
    setting = {"method": name, **of_tasks(options, seed)}
    result = finished(path, setting)
    if result is None:
        plain = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
        data = CLI([*command(options, seed), *plain], run=False).datamodule
        assert isinstance(data, TableTasks)
        result = scores(fitted(BASELINES[name], data.classes, seed), data)
        write_result(path, setting, result)
    return result


def run_all(options: argparse.Namespace) -> pd.DataFrame:
    """Run every method with every seed; return a row for each."""
    lines = []
    total = options.seeds * (len(options.attentions) + len(CLASSICAL))
    for seed in range(options.seeds):
        for name in (*options.attentions, *CLASSICAL):
            start = time.perf_counter()
            result = fit(options, name, seed) if name in CLASSICAL else train(options, name, seed)
            lines.append({"method": name, "seed": seed, **result})
            taken = time.perf_counter() - start
            score = f"held-out ROC AUC {result['held-out']:.3f}"
            sys.stderr.write(f"{len(lines)} of {total}: {name}, seed {seed}, {score} ({taken:.0f} s)\n")
    return pd.DataFrame(lines)


def inference(options: argparse.Namespace) -> pd.DataFrame:
    """Inference time of a table in milliseconds by its number of rows, 80 % context, for the networks of seed 0.

    Stored in the folder of the runs; measured again if a value is missing or a network is newer.
    """
    path = options.runs / "inference.csv"
    checkpoints = {name: options.runs / name / "seed_0" / "last.ckpt" for name in options.attentions}
    if path.exists() and path.stat().st_mtime > max(file.stat().st_mtime for file in checkpoints.values()):
        times = pd.read_csv(path)
        wanted = [(name, rows, options.tables) for rows in options.rows for name in options.attentions]
        if list(times[["attention", "rows", "tables"]].itertuples(index=False, name=None)) == wanted:
            return times
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = {
        name: PriorClassification.load_from_checkpoint(file, map_location=device, weights_only=True).network.eval()
        for name, file in checkpoints.items()
    }
    lines = []
    for rows in options.rows:
        x = torch.randn(options.tables, rows, 13, device=device)
        y = torch.randint(0, 2, (options.tables, rows), device=device)
        context = rows * 4 // 5
        steps = {name: partial(network, x, y, context) for name, network in networks.items()}
        with torch.inference_mode():
            seconds = median_seconds(steps, options.repeats, device)
        lines += [(name, rows, options.tables, 1e3 * seconds[name] / options.tables) for name in options.attentions]
        sys.stderr.write(f"inference with {rows} rows done\n")
    times = pd.DataFrame(lines, columns=["attention", "rows", "tables", "milliseconds"])
    times.to_csv(path, index=False, float_format="%.5g")
    return times


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not finished; write and print the report."""
    options = arguments(argv)
    for name in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    try:
        table = load_table(options.source)
    except (DataError, ValueError) as ex:
        raise SystemExit(f"error: {ex}") from ex
    for name in options.attentions:  # Build every run once, so that errors show before hours of training.
        build(argparse.Namespace(**vars(options), attention=name, seed=0, folder=options.runs))
    results = run_all(options)
    sys.stdout.write(write(options, table, results, inference(options)))


if __name__ == "__main__":
    main()
