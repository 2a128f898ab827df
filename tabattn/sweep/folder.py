"""Folder of a sweep: its settings, its study, and a folder for each trial."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabattn.compare.leases import locked, write_json

if TYPE_CHECKING:
    from optuna.storages import JournalStorage

STUDY = "sweep"
"""Name of the study in its journal."""


@dataclass(frozen=True)
class Settings:
    """What all workers of a sweep agree on.

    Args:
        flags: Words of the command line of ``train.py fit`` that all trials share.
        tune: The tuned flags, as given.
        budget: Length of a trial: ``{"kind": "steps"|"seconds", "value": ...}``.
        metric: Validation metric of a trial: the best of its validations.
        mode: ``max`` or ``min``.
        validations: Validations of a trial, evenly spaced.
        prune: Whether trials behind the median of the others are stopped.
        seed: Seed of the sampler.
    """

    flags: list[str]
    tune: list[str]
    budget: dict[str, Any]
    metric: str
    mode: str
    validations: int = 5
    prune: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Folder:
    """Paths in the folder of a sweep.

    Args:
        path: The folder.
    """

    path: Path

    def trial(self, number: int) -> Path:
        """Folder of a trial."""
        return self.path / "trials" / str(number)

    def storage(self) -> "JournalStorage":
        """Open the journal of the study."""
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        return JournalStorage(JournalFileBackend(str(self.path / "study.journal")))

    def agree(self, settings: Settings) -> None:
        """Write the settings, or compare them with those of the workers before.

        Raises:
            ValueError: The folder holds a sweep with other settings, or other files.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / "sweep.json"
        with locked(self.path):
            if not file.exists():
                if left := sorted(each.name for each in self.path.iterdir() if each.name != ".lock"):
                    raise ValueError(f"--out: {self.path} holds {left[0]} but no sweep: choose another folder")
                write_json(file, asdict(settings))
        ours, theirs = asdict(settings), asdict(self.settings())
        for name, value in theirs.items():
            if ours[name] != value:
                raise ValueError(
                    f"--out: {self.path} holds a sweep with {name} {_shown(value)}, not {_shown(ours[name])}: give the "
                    "same command again, or another folder"
                )

    def settings(self) -> Settings:
        """Read the settings."""
        return Settings(**json.loads((self.path / "sweep.json").read_text()))


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
