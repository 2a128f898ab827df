"""Robustness of checkpoints against SIGKILL: ``python -m benchmarks.kills --folder /mnt/other``.

Each try forks a training that saves after every step, kills it at a random moment after its first checkpoint, and loads
its checkpoints. The folder should be on another file system than the temporary folder, between which files cannot be
renamed.
"""

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import datamodules  # noqa: F401  (makes the names of the commands known)
import tabattn.tasks  # noqa: F401
from benchmarks.reports import check_least, writable_folder
from tabattn.training.cli import main as command_line

CONFIG = Path(__file__).parents[1] / "configs" / "pairs.yaml"
FLAGS = [
    "fit",
    "--config",
    str(CONFIG),
    "--model.network.dim=64",
    "--model.network.hidden=128",
    "--model.network.layers=2",
]
FLAGS += ["--data.points=[8,8]", "--data.context=3", "--data.batch_size=2", "--data.steps_per_epoch=1"]
FLAGS += ["--data.evaluation.val_batches=1", "--data.num_workers=0", "--trainer.accelerator=cpu", "--lr_scheduler=null"]
FLAGS += ["--trainer.max_epochs=-1", "--trainer.enable_progress_bar=false", "--trainer.check_val_every_n_epoch=1"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tries, and print how many left only loadable checkpoints; the exit status is 1 if one did not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--folder", type=writable_folder, required=True, help="folder to train in; on another file system"
    )
    parser.add_argument("--kills", type=int, default=100, help="number of tries (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args(argv)
    check_least(parser, options, kills=1, seed=0)
    torch.set_num_threads(1)
    moments, survivors, files = random.Random(options.seed), 0, 0
    for number in range(options.kills):
        folder = options.folder / f"kill{number}"
        kill(folder, moments.uniform(0.0, 0.5))
        loaded = [loads(path) for path in folder.rglob("*.ckpt")]
        files += len(loaded)
        survivors += bool(loaded) and all(loaded)
    sys.stdout.write(f"{survivors} of {options.kills} kills left checkpoints that all load ({files} files)\n")
    return int(survivors < options.kills)


def kill(folder: Path, delay: float) -> None:
    """Train in a child process, and kill it ``delay`` seconds after its first checkpoint."""
    child = os.fork()
    if not child:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os._exit(command_line([*FLAGS, f"--run.root={folder}"]))
    while not any(folder.rglob("*.ckpt")):
        if os.waitpid(child, os.WNOHANG)[0]:
            raise RuntimeError(f"the training in {folder} ended before its first checkpoint")
        time.sleep(0.01)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def loads(path: Path) -> bool:
    """Whether a checkpoint can be loaded and has a step number."""
    try:
        return bool(torch.load(path, weights_only=True)["global_step"] > 0)
    except Exception:
        return False


if __name__ == "__main__":
    sys.exit(main())
