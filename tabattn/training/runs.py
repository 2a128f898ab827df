"""Where a run leaves its files: one folder with its logs, its configuration and its checkpoints."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from tabattn.storage.files import try_lock
from tabattn.training.run_files import MetricsTable

_HELD: set[int] = set()
"""Descriptors of the folders that runs of this process write to."""


@dataclass
class RunFolder:
    """The folder of a run: ``<root>/<name>/<version>``.

    Args:
        root: Folder above all runs.
        name: Path from the root, alike for runs to be compared; by default ``<task>/<attention>``.
        version: Last part of the path; by default the next free ``version_<n>``. A version that is there already is
            refused, unless ``--ckpt_path`` is a checkpoint in it: then the run goes on in that folder.
    """

    root: str = "runs"
    name: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if "://" in self.root:
            raise ValueError(f"a run's root must be a folder of this machine, got {self.root}")
        for part in (self.name, self.version):
            if part is not None and (Path(part).is_absolute() or ".." in Path(part).parts):
                raise ValueError(f"a run's name and version must be paths below its root, got {part}")
        self._lock: int | None = None

    def loggers(self, name: str, checkpoint: str | None = None, once: str | None = None) -> list[Logger]:
        """Claim the folder, for this process alone until ``release``, and return the loggers that write to it.

        Args:
            name: The name to use where none was given.
            checkpoint: What the run starts from; one in the folder lets the run go on there.
            once: Name of a subfolder that must not be there yet.

        Returns:
            A TensorBoard logger and one that writes ``metrics.csv``.

        Raises:
            ValueError: The folder belongs to another run.
        """
        name = self.name or name
        if self.version is None:
            version: int | str = self._claim_next(Path(self.root, name))
        else:
            version = self.version
            if getattr(rank_zero_only, "rank", 0) == 0:
                self._claim(Path(self.root, name, version), checkpoint, once)
        table = MetricsTable(self.root, name, version)
        return [TensorBoardLogger(self.root, name, version, default_hp_metric=False), table]

    def release(self) -> None:
        """Let other runs have the folder."""
        lock, self._lock = self._lock, None
        if lock is not None:
            _HELD.discard(lock)
            os.close(lock)

    def _claim(self, folder: Path, checkpoint: str | None, once: str | None) -> None:
        """Take a named folder: a new or empty one, or that of the checkpoint."""
        folder.mkdir(parents=True, exist_ok=True)
        if not self._take(folder):
            raise ValueError(f"run.version: another run is writing to {folder} at this moment: choose another version")
        resumes = checkpoint is not None and _within(checkpoint, folder)
        if any(folder.iterdir()) and not resumes:
            self.release()
            raise ValueError(
                f"run.version: {folder} holds a run already: choose another version, or go on with that run by the "
                f"--ckpt_path of a checkpoint in {folder / 'checkpoints'}"
            )
        if once is not None and (folder / once).exists():
            self.release()
            raise ValueError(f"run.version: {folder} has {once} already: choose another version, or remove them")

    def _claim_next(self, folder: Path) -> int:
        """Return the next free version; make its folder at once, so that no parallel run takes it too."""
        taken = [
            int(path.name.removeprefix("version_")) for path in folder.glob("version_*") if path.name[8:].isdigit()
        ]
        number = max(taken, default=-1) + 1
        if getattr(rank_zero_only, "rank", 0) == 0:
            folder.mkdir(parents=True, exist_ok=True)
            while True:
                path = folder / f"version_{number}"
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    if self._take(path):
                        break
                number += 1
        return number

    def _take(self, folder: Path) -> bool:
        """Lock a folder; the lock ends with the process at the latest, however that ends."""
        lock = os.open(folder, os.O_RDONLY)
        if not try_lock(lock):
            os.close(lock)
            return False
        _HELD.add(lock)
        self._lock = lock
        return True


def _within(checkpoint: str, folder: Path) -> bool:
    """Whether a checkpoint lies in a folder; the words for one (best, last) always mean the folder of the run."""
    if os.sep not in checkpoint and not Path(checkpoint).exists():
        return (folder / "checkpoints").exists()
    return folder.resolve() in Path(checkpoint).resolve().parents


def _forget() -> None:
    """Close the folders in a child, such as a loader's worker: it may outlive a killed parent for a while."""
    for lock in _HELD:
        os.close(lock)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
