"""Suggested commands at the end of a run: how to resume, test and inspect it."""

import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from lightning.pytorch import Trainer

SEVERAL = 3
"""Most files of a folder that are listed by name; more are counted."""


def program() -> list[str]:
    """First words of a command line of this program."""
    path = Path(sys.argv[0])
    return ["python", str(path)] if path.name == "train.py" else ["python", "-m", "tabattn"]


def going_on(given: Iterable[str], packages: Iterable[str], checkpoint: str) -> str:
    """Command line that resumes a run from a checkpoint.

    Args:
        given: Words of the command line.
        packages: Packages of ``--allow``.
        checkpoint: Path of the checkpoint.
    """
    words = [f"--allow={package}" for package in packages]
    rest = iter(given)
    for word in rest:
        if word == "--ckpt_path":
            next(rest, None)
        elif not word.startswith("--ckpt_path="):
            words.append(word)
    return shlex.join([*program(), *words, f"--ckpt_path={checkpoint}"])


def closing(command: str, folder: Path, packages: Iterable[str], trainer: Trainer) -> str:
    """Closing message of a run: its folder, files and suggested commands.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        folder: The folder of the run.
        packages: Packages of ``--allow``.
        trainer: Trainer of the run.
    """
    lines = [f"The {command} run is in {folder}: {', '.join(_written(folder))}"]
    allowed = [f"--allow={package}" for package in packages]
    config, best, last = (folder / part for part in ("config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt"))
    if command == "fit" and config.is_file() and last.is_file():
        test = [*program(), "test", *allowed, "--config", str(config)]
        lines.append(f"  test it:    {shlex.join([*test, '--ckpt_path', str(best if best.is_file() else last)])}")
        resume = [*program(), "fit", *allowed, "--config", str(config), "--ckpt_path", str(last)]
        lines.append(f"  resume it:  {shlex.join([*resume, *_longer(trainer)])}")
    if command != "predict" and any(folder.glob("events.out.*")):
        lines.append(f"  look at it: {shlex.join(['tensorboard', '--logdir', str(folder)])}")
    return "\n".join(lines)


def _longer(trainer: Trainer) -> Iterator[str]:
    """Yield the flag that lengthens a training which has taken all its steps or epochs."""
    if 0 < trainer.max_steps <= trainer.global_step:
        yield f"--trainer.max_steps={2 * trainer.max_steps}"
    elif trainer.max_epochs is not None and trainer.max_epochs > 0:
        yield f"--trainer.max_epochs={2 * trainer.max_epochs}"


def _written(folder: Path) -> Iterator[str]:
    """Yield the files of a run, or their number in folders with many; run folders below it are left out."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    yield from (name for name in names if not name.startswith("events.out."))
    if any(name.startswith("events.out.") for name in names):
        yield "events for TensorBoard"
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not (path / "config.yaml").exists())
    if steps := [path.name for path in folders if path.name.isdigit()]:
        yield f"points for the projector in {steps[0]}" + (f" to {steps[-1]}" if len(steps) > 1 else "")
    for below in (path for path in folders if not path.name.isdigit()):
        files = sorted(str(path.relative_to(folder)) for path in below.rglob("*") if path.is_file())
        if len(files) <= SEVERAL:
            yield from files
        else:
            yield f"{len(files)} files in {below.name}"
