"""Training of a cell of a comparison, and its result."""

import csv
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer

from tabattn.cli import CLI
from tabattn.compare import evaluation, machine
from tabattn.compare.cells import code_version
from tabattn.compare.leases import Lease
from tabattn.compare.recorder import FIELDS, Recorder
from tabattn.compare.store import Store
from tabattn.compare.validations import Validations
from tabattn.contract.errors import DataError
from tabattn.storage.checkpoint_files import load
from tabattn.storage.files import write_checkpoint


class CellCLI(CLI):
    """Command line of a cell's training, with a recorder.

    Args:
        arguments: Words after ``fit``.
        recorder: Added to the trainer.
        callbacks: Added to the trainer, before the recorder.
    """

    def __init__(self, arguments: Sequence[str], recorder: Recorder, callbacks: Sequence[Callback] = ()) -> None:
        self.recorder = recorder
        super().__init__(["fit", *arguments], callbacks=callbacks)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        self.recorder.insert(trainer)
        return trainer


def run(store: Store, key: str, lease: Lease) -> dict[str, Any]:
    """Train and evaluate a cell.

    Args:
        store: Folder of the comparison.
        key: The cell.
        lease: Its lease, held by this process.

    Returns:
        Content of ``result.json``.

    Raises:
        MisconfigurationException: The code is not that of the cell's name.
    """
    told, settings = store.description(key), store.comparison()
    if told["versions"]["code"] != code_version():
        raise MisconfigurationException("the code has changed since this cell was planned: start the comparison again")
    torch.set_num_threads(settings["threads"])
    os.chdir(settings["folder"])
    monitored = (told["config"].get("checkpoint") or {}).get("monitor")
    recorder = Recorder(monitored)
    cli, checkpoints = train(store, told, lease, recorder)
    # Before the evaluation, whose checkpoint may be an earlier one: it sets the recorder back.
    measured: dict[str, Any] = {"train_seconds": recorder.clock.seconds, "peak_memory_mb": recorder.peak or None}
    measured |= {"steps": cli.trainer.global_step, "curve": write_curve(recorder, lease)}
    best = checkpoints / "best.ckpt"
    first = evaluation.FirstBatch()
    cli.trainer.callbacks.append(first)  # type: ignore[attr-defined]
    checkpoint = best if best.exists() else checkpoints / "last.ckpt"
    scores = evaluation.evaluate(cli.trainer, cli.model, cli.datamodule, str(checkpoint), told["seed"])
    metric = evaluation.final_metric(monitored, scores)
    maps = lease.attempt / "maps.npz"
    drawn = evaluation.write_maps(cli.trainer, cli.model, first.batch, maps)
    return {
        **{name: told[name] for name in ("key", "task", "attention", "label", "seed", "arguments", "versions", "data")},
        "machine": machine.described(torch.get_num_threads(), cli.trainer.strategy.root_device.type == "cuda"),
        "budget": settings["budget"],
        **measured,
        "metric": metric,
        "mode": told["config"]["checkpoint"]["mode"] if monitored else evaluation.mode_of(metric or ""),
        "scores": scores,
        "sets": evaluation.sets_of(metric, scores),
        "parameters": sum(parameter.numel() for parameter in cli.model.network.parameters()),
        "maps": str(maps.relative_to(lease.folder)) if drawn else None,
    }


def train(store: Store, told: dict[str, Any], lease: Lease, recorder: Recorder) -> tuple[CLI, Path]:
    """Train a cell, from the last checkpoint of an earlier attempt if there is one.

    Returns:
        The command line that has run, and the folder of its checkpoints.
    """
    name, version = slug(told["label"]), f"seed_{told['seed']}"
    checkpoints = lease.attempt / name / version / "checkpoints"
    arguments = [*told["arguments"], *budget_flags(told["steps"]), "--checkpoint.dirpath=null"]
    arguments += [f"--run.root={lease.attempt}", f"--run.name={name}", f"--run.version={version}"]
    if inherit(store, told["key"], lease, checkpoints):
        arguments.append(f"--ckpt_path={checkpoints / 'last.ckpt'}")
    arguments.append("--trainer.enable_progress_bar=false")
    return CellCLI(arguments, recorder, validations(told["config"], told["steps"])), checkpoints


def budget_flags(steps: int) -> list[str]:
    """Flags for a number of steps."""
    return [f"--trainer.max_steps={steps}", "--trainer.max_epochs=-1", "--trainer.max_time=null"]


def validations(config: dict[str, Any], steps: int) -> list[Callback]:
    """Validations at equal distances and at the end; none where the configuration has an interval of its own."""
    if config["trainer"].get("val_check_interval") is not None:
        return []
    parts = next(parts for parts in (5, 4, 6, 3, 7, 2, 8, 1) if steps % parts == 0)
    return [Validations(steps // parts)]


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


def write_curve(recorder: Recorder, lease: Lease) -> str:
    """Write a learning curve as CSV, and return its path below the folder of the cell."""
    path = lease.attempt / "curve.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, FIELDS)
        table.writeheader()
        table.writerows(recorder.rows)
    return str(path.relative_to(lease.folder))
