"""Run folders: logs, configuration and checkpoints of one run."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from tabattn.storage import trusted
from tabattn.storage.files import disk_problem, try_lock
from tabattn.training.run_files import MetricsTable

_HELD: set[int] = set()
"""File descriptors of the run folders that this process has locked."""


REFUSED = ("config*.yaml", "hparams.yaml", "events.out.*")
"""Files that a run writes before its first step; a folder with no others is removed if the run is refused."""


@dataclass
class RunFolder:
    """Run folder: ``<root>/<name>/<version>``.

    A test, validation or prediction with a checkpoint of a run writes into ``test_<n>``, ``validate_<n>`` or
    ``predict_<n>`` below that run's folder, unless a flag names another one.

    Args:
        root: Parent folder of all runs.
        name: Path below the root, shared by runs that are repetitions of one another; ``{task}`` and ``{attention}``
            are replaced by the names of the task and of its mechanism, the latter after the name of the network where
            that is not the task's default one (``TNPA-Softmax``). By default ``{task}/{attention}``.
        version: Last part of the path; by default the next free ``version_<n>`` (``test_<n>`` and so on without
            training). An existing version is refused, unless ``--ckpt_path`` is a checkpoint in it: then the run
            resumes in that folder.
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
        if self.version is not None and not Path(self.version).parts:
            raise ValueError("run.version must be the name of a folder, got none: leave it out for the next number")
        self.folder: Path | None = None
        self._made: list[Path] = []
        self._lock: int | None = None

    def loggers(
        self,
        name: str,
        checkpoint: str | None = None,
        once: str | None = None,
        command: str = "fit",
        home: Path | None = None,
    ) -> list[Logger]:
        """Claim and lock the folder, and return the loggers that write to it.

        Args:
            name: Name to use where none was given.
            checkpoint: Checkpoint to start from; with one in the folder the run resumes there.
            once: Name of a subfolder that must not exist in a named version.
            command: Subcommand: ``fit``, ``validate``, ``test`` or ``predict``.
            home: Folder of the run that is tested or used to predict, to write below it; None = ``<root>/<name>``.

        Returns:
            A TensorBoard logger and one that writes ``metrics.csv``.

        Raises:
            ValueError: The folder belongs to another run.
        """
        root, name = (self.root, self.name or name) if home is None else (str(home), "")
        if self.version is None or home is not None:
            prefix = "version" if command == "fit" else command
            number = self._claim_next(Path(root, name), prefix)
            version: int | str = number if command == "fit" else f"{prefix}_{number}"
            self.folder = Path(root, name, f"{prefix}_{number}")
        else:
            version, self.folder = self.version, Path(root, name, self.version)
            if getattr(rank_zero_only, "rank", 0) == 0:
                self._claim(self.folder, checkpoint, once)
        return [
            TensorBoardLogger(root, name, version, default_hp_metric=False),
            MetricsTable(root, name, version),
        ]

    def release(self) -> None:
        """Release the lock on the folder."""
        lock, self._lock = self._lock, None
        if lock is not None:
            _HELD.discard(lock)
            os.close(lock)

    def discard(self) -> None:
        """Unlock the folder, and remove it if this run created it and wrote only ``config.yaml`` and empty logs."""
        # The lock is held until the folder is gone: another run may take it the moment it is free.
        try:
            self._remove_made()
        finally:
            self.release()

    def _remove_made(self) -> None:
        made, self._made = self._made, []
        if not made or self.folder is None:
            return
        below: list[Path] = []
        with contextlib.suppress(OSError):
            # It raises if the folder could not be created, for example because its name is too long.
            below = sorted(made[0].rglob("*"), reverse=True)
        files = [path for path in below if not path.is_dir()]
        if all(any(path.match(pattern) for pattern in REFUSED) for path in files):
            for path in files:
                path.unlink(missing_ok=True)
            for folder in (*below, *made):
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def _claim(self, folder: Path, checkpoint: str | None, once: str | None) -> None:
        """Claim a named folder: it must be new, empty, or that of the checkpoint."""
        self._make(folder)
        taken = self._take(folder)
        if not taken and not folder.exists():
            # A run that was refused has removed the folder it made.
            self._make(folder)
            taken = self._take(folder)
        if not taken:
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

    def _claim_next(self, folder: Path, prefix: str) -> int:
        """Return the next free number, and create its folder at once, so that no parallel run takes the same one."""
        ends = [path.name.removeprefix(f"{prefix}_") for path in folder.glob(f"{prefix}_*")]
        number = max((int(end) for end in ends if end.isdigit()), default=-1) + 1
        if getattr(rank_zero_only, "rank", 0) == 0:
            self._make(folder)
            while True:
                path = folder / f"{prefix}_{number}"
                try:
                    path.mkdir()
                except FileNotFoundError:
                    # A run that was refused has removed the parents it made.
                    self._make(folder)
                    continue
                except FileExistsError:
                    number += 1
                    continue
                if self._take(path):
                    self._made.insert(0, path)
                    break
                number += 1
        return number

    def _make(self, folder: Path) -> None:
        """Create a folder and its missing parents, and record which were created."""
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)

    def _take(self, folder: Path) -> bool:
        """Lock a folder, at most until the process ends; False if another run has locked it, or removed it since."""
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            return False
        if not (try_lock(lock) and _is(lock, folder)):
            os.close(lock)
            return False
        _HELD.add(lock)
        self._lock = lock
        return True


def path_of(name: str | None, names: dict[str, str]) -> str:
    """Fill ``{task}`` and ``{attention}`` into a path; an empty name is left out."""
    name = name or "{task}/{attention}"
    for key, value in names.items():
        name = name.replace(f"{{{key}}}", value)
    return os.path.normpath(name)


def home_of(checkpoint: str | None) -> Path | None:
    """Run folder of a checkpoint; None if it is in no run's ``checkpoints``."""
    if checkpoint is None:
        return None
    folder = Path(checkpoint).parent
    of_run = folder.name == "checkpoints" and (folder.parent / "config.yaml").is_file()
    return folder.parent if of_run else None


@contextlib.contextmanager
def made_folder(parser: ArgumentParser, option: str, *folder: str) -> Iterator[None]:
    """Context that reports a folder that cannot be created as wrong use (status 2), but not a disk error."""
    try:
        yield
    except OSError as ex:
        if disk_problem(ex):
            raise
        where = trusted.shortened(os.path.join(*folder))
        parser.error(f"{option}: the folder cannot be made below {where}: {ex.strerror}")


def _is(descriptor: int, folder: Path) -> bool:
    """Whether an open folder still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(folder))
    except FileNotFoundError:
        return False


def _within(checkpoint: str, folder: Path) -> bool:
    """Whether a checkpoint is in a run folder; ``best`` and ``last`` are if the run has checkpoints."""
    if os.sep not in checkpoint and not Path(checkpoint).exists():
        return (folder / "checkpoints").exists()
    return folder.resolve() in Path(checkpoint).resolve().parents


def _forget() -> None:
    """Unlock the folders in a forked child: a loader's worker may outlive its killed parent for a while."""
    for lock in _HELD:
        os.close(lock)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
