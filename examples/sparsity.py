"""Sparsefinder from beginning to end on a small network: ``python -m examples.sparsity``.

An in-context classifier is trained with Entmax; queries and keys of its layers are recorded, projections are learned
that predict which weights are zero, graphs are swept, and the network is tested with its attention replaced. Every step
is one command, which is printed. Results: ``runs/sparsity-demo/results.csv`` and ``results.png``.
"""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import callbacks  # noqa: F401  (makes the names of the configurations known)
import datamodules  # noqa: F401
import tabattn.tasks  # noqa: F401
from tabattn.training.cli import CLI

CONFIGS = Path(__file__).parent.parent / "configs"
OUT = Path("runs", "sparsity-demo")
STEPS, ITEMS, LEARNING = 500, 40, 100


def run(*words: str | Path) -> CLI:
    """Print a command, and run it."""
    arguments = [str(word) for word in words]
    sys.stderr.write(f"\n$ python train.py {shlex.join(arguments)}\n")
    return CLI(args=arguments)


def best(cli: CLI) -> str:
    """Path of the best checkpoint of a training, or of its last, where it ended before a validation."""
    folder = Path(cli.trainer.loggers[0].log_dir, "checkpoints")
    found = folder / "best.ckpt"
    return str(found if found.exists() else folder / "last.ckpt")


def main(arguments: Sequence[str]) -> None:
    """Run all steps; further arguments are of the training of the network."""
    torch.set_num_threads(1)
    network = ["--config", CONFIGS / "demo.yaml", "--model.attention=Entmax"]
    steps = [f"--trainer.max_steps={STEPS}", f"--run.name={OUT.name}/network", *arguments]
    trained = best(run("fit", *network, *steps))
    recorded = OUT / "queries_keys.h5"
    record = [f"--trainer.callbacks.path={recorded}", "--trainer.callbacks.overwrite=true"]
    record.append(f"--trainer.callbacks.items={ITEMS}")
    run("predict", *network, "--config", CONFIGS / "sparsity" / "extract.yaml", *record, f"--ckpt_path={trained}")
    learn = ["--config", CONFIGS / "sparsity" / "projections.yaml", f"--data.path={recorded}"]
    short = [
        "--data.batch_size=4",
        "--trainer.check_val_every_n_epoch=4",
        f"--trainer.max_steps={LEARNING}",
        f"--run.name={OUT.name}/projections",
    ]
    learned = best(run("fit", *learn, *short))
    sweep = CONFIGS / "sparsity" / "sweep.yaml"
    run("test", "--config", sweep, f"--data.path={recorded}", f"--ckpt_path={learned}")
    swap = [f"--trainer.callbacks.projections={learned}", f"--trainer.callbacks.out={OUT}"]
    swap.append("--trainer.callbacks.groupings=[kmeans, fixed=8, dynamic=8]")
    run("test", *network, "--config", CONFIGS / "sparsity" / "evaluate.yaml", *swap, f"--ckpt_path={trained}")
    for ending in ("csv", "png"):
        shutil.copyfile(OUT / f"attention_swap.{ending}", OUT / f"results.{ending}")
    sys.stdout.write(
        f"\nresults: {OUT / 'results.csv'}, {OUT / 'results.png'}; look inside: tensorboard --logdir runs\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
