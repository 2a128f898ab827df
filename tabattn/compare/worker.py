"""Worker: runs one cell of a comparison in this process, ``python -m tabattn.compare.worker DIR KEY``.

It takes the lease of the cell, writes into the folder of its attempt, goes on from the last checkpoint of an earlier
attempt, and publishes the result if the lease is still its own. Exit status: 0 done; 75 another process has the cell;
74 the disk fails; 143 and the like after a signal, when the training is saved; any other a failure, which is recorded.
"""

import argparse
import contextlib
import csv
import os
import re
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from tabattn.cli import CLI
from tabattn.compare import evaluation, machine
from tabattn.compare.leases import FencedError, Lease
from tabattn.compare.recorder import FIELDS, Recorder
from tabattn.compare.store import Store, fail
from tabattn.contract.errors import DataError
from tabattn.contract.library_warnings import without_advertisements
from tabattn.storage.checkpoint_files import load
from tabattn.storage.files import disk_problem, write_checkpoint, write_file
from tabattn.training.cli import WATCH
from tabattn.training.signals import Interrupted
from tabattn.training.status import status_of, thread_fault

BUSY, DISK_FULL = 75, 74
"""Exit statuses: another process has the cell, or its result is there; the disk cannot be written."""

SIGNALLED = 128


class CellCLI(CLI):
    """Command line of a cell's training, with a recorder.

    Args:
        arguments: Words after ``fit``.
        recorder: Added to the trainer.
    """

    def __init__(self, arguments: Sequence[str], recorder: Recorder) -> None:
        self.recorder = recorder
        super().__init__(["fit", *arguments])

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        self.recorder.insert(trainer)
        return trainer


def main(argv: Sequence[str] | None = None) -> int:
    """Run a cell, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tabattn.compare.worker", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="folder of the comparison")
    parser.add_argument("key", help="name of the cell")
    parser.add_argument("--executor", default="local", help="what started this process (default: local)")
    options = parser.parse_args(argv)
    store = Store(options.folder.resolve())
    try:
        lease = Lease.take(store.cell(options.key), options.executor)
    except OSError as ex:
        sys.stderr.write(f"error: {ex}\n")
        return DISK_FULL
    if lease is None:
        return BUSY
    lease.beating()
    try:
        return attempt(store, options.key, lease)
    finally:
        lease.release()


def attempt(store: Store, key: str, lease: Lease) -> int:
    """Run a cell whose lease is held; everything that is printed goes to ``log.txt`` of the attempt."""
    without_advertisements()
    threading.excepthook = thread_fault
    try:
        with logged(lease.attempt / "log.txt"), WATCH.watching():
            try:
                lease.publish(run(store, key, lease))
                return 0
            except (SystemExit, Exception, Interrupted, KeyboardInterrupt) as ex:
                return ended(ex, lease)
    except OSError as ex:
        sys.stderr.write(f"error: {ex}\n")
        return DISK_FULL


def ended(ex: BaseException, lease: Lease) -> int:
    """Exit status after an exception, which is printed; a failure is recorded.

    Raises:
        OSError: The disk cannot be written.
    """
    if isinstance(ex, FencedError):
        sys.stderr.write(f"refused: {ex}\n")
        return BUSY
    if problem := disk_problem(ex):
        raise OSError(problem) from ex
    try:
        status = status_of(ex, WATCH.number)
    except Exception as fault:
        traceback.print_exc()
        status, reason = 1, f"{type(fault).__name__}: {str(fault).strip().partition(chr(10))[0]}"
    else:
        reason = _last_error(lease.attempt / "log.txt") or f"exit status {status}"
    if status > SIGNALLED:
        return status
    fail(lease.attempt, reason, status)
    return status


def run(store: Store, key: str, lease: Lease) -> dict[str, Any]:
    """Train and evaluate a cell, and return the content of ``result.json``."""
    told, settings = store.description(key), store.comparison()
    torch.set_num_threads(settings["threads"])
    os.chdir(settings["folder"])
    config, seed, steps = told["config"], told["seed"], told["steps"]
    monitored = (config.get("checkpoint") or {}).get("monitor")
    recorder = Recorder(monitored)
    version = f"seed_{seed}"
    checkpoints = lease.attempt / slug(told["label"]) / version / "checkpoints"
    arguments = [*told["arguments"], *budget_flags(config, steps), "--checkpoint.dirpath=null"]
    arguments += [f"--run.root={lease.attempt}", f"--run.name={slug(told['label'])}", f"--run.version={version}"]
    if inherit(store, key, lease, checkpoints):
        arguments.append(f"--ckpt_path={checkpoints / 'last.ckpt'}")
    cli = CellCLI([*arguments, "--trainer.enable_progress_bar=false"], recorder)
    best = checkpoints / "best.ckpt"
    checkpoint = best if best.exists() else checkpoints / "last.ckpt"
    first = evaluation.FirstBatch()
    cli.trainer.callbacks.append(first)  # type: ignore[attr-defined]
    scores = evaluation.evaluate(cli.trainer, cli.model, cli.datamodule, str(checkpoint), seed)
    metric = evaluation.final_metric(monitored, scores)
    mode = config["checkpoint"]["mode"] if monitored else evaluation.mode_of(metric or "")
    maps = evaluation.write_maps(cli.trainer, cli.model, first.batch, lease.attempt / "maps.npz")
    write_curve(recorder, lease.attempt / "curve.csv")
    relative = lease.attempt.relative_to(lease.folder)
    return {
        **{name: told[name] for name in ("key", "task", "attention", "label", "seed", "arguments", "versions", "data")},
        "machine": machine.described(torch.get_num_threads(), cli.trainer.strategy.root_device.type == "cuda"),
        "budget": settings["budget"],
        "steps": cli.trainer.global_step,
        "metric": metric,
        "mode": mode,
        "scores": scores,
        "sets": evaluation.sets_of(metric, scores),
        "parameters": sum(parameter.numel() for parameter in cli.model.network.parameters()),
        "train_seconds": recorder.clock.seconds,
        "peak_memory_mb": recorder.peak or None,
        "curve": str(relative / "curve.csv"),
        "maps": str(relative / "maps.npz") if maps else None,
    }


def budget_flags(config: dict[str, Any], steps: int) -> list[str]:
    """Flags for a number of steps, with validations at equal distances and at the end."""
    trainer = config["trainer"]
    parts = next(parts for parts in (5, 4, 6, 3, 7, 2, 8, 1) if steps % parts == 0)
    every = steps // parts * (trainer.get("accumulate_grad_batches") or 1)
    asked = trainer.get("val_check_interval") is not None
    validations = [] if asked else [f"--trainer.val_check_interval={every}", "--trainer.check_val_every_n_epoch=null"]
    return [f"--trainer.max_steps={steps}", "--trainer.max_epochs=-1", "--trainer.max_time=null", *validations]


def inherit(store: Store, key: str, lease: Lease, checkpoints: Path) -> bool:
    """Copy the checkpoints of the latest earlier attempt that has some; False if there is none.

    ``last.ckpt`` is written last: where it is missing, the copy is not complete. Its paths become those of the copy.
    """
    for earlier in reversed([path for path in store.attempts(key) if int(path.name) < lease.token]):
        for last in earlier.glob("*/*/checkpoints/last.ckpt"):
            try:
                checkpoint = load(last)
            except (DataError, ValueError, OSError):
                continue
            checkpoints.mkdir(parents=True)
            for other in last.parent.glob("*.ckpt"):
                if other.name not in ("last.ckpt", "exception.ckpt"):
                    shutil.copyfile(other, checkpoints / other.name)
            for state in checkpoint.get("callbacks", {}).values():
                if isinstance(state, dict) and "dirpath" in state:
                    state.update(moved(state, state["dirpath"], os.path.realpath(checkpoints)))
            write_checkpoint(checkpoints / "last.ckpt", checkpoint)
            return True
    return False


def moved(value: Any, old: str, new: str) -> Any:
    """Replace the folder of paths, in texts, and in keys and values of dictionaries."""
    if isinstance(value, dict):
        return {moved(name, old, new): moved(each, old, new) for name, each in value.items()}
    if isinstance(value, str) and (value == old or value.startswith(old + os.sep)):
        return new + value[len(old) :]
    return value


def slug(label: str) -> str:
    """Label as the name of a folder."""
    return re.sub(r"[^\w.=-]+", "_", label).strip("._") or "cell"


def write_curve(recorder: Recorder, path: Path) -> None:
    """Write a learning curve as CSV."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, FIELDS)
        table.writeheader()
        table.writerows(recorder.rows)


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Context that appends what this process and its children print to a file."""
    write_file(path, b"")
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("ab", buffering=0) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)


def _last_error(log: Path) -> str | None:
    sys.stderr.flush()
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ") if lines else None


if __name__ == "__main__":
    sys.exit(main())
