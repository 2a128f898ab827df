"""Where a run leaves its files: one folder with its logs, its configuration and its checkpoints."""

from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


@dataclass
class RunFolder:
    """The folder of a run: ``<root>/<name>/<version>``.

    Args:
        root: Folder above all runs.
        name: Path from the root, alike for runs to be compared; by default ``<task>/<attention>``.
        version: Last part of the path; by default the next free ``version_<n>``. A version that is there already is
            written over.
    """

    root: str = "runs"
    name: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        for part in (self.name, self.version):
            if part is not None and (Path(part).is_absolute() or ".." in Path(part).parts):
                raise ValueError(f"a run's name and version must be paths below its root, got {part}")

    def loggers(self, name: str) -> list[Logger]:
        """Claim the folder and return the loggers that write to it.

        Args:
            name: The name to use where none was given.

        Returns:
            A TensorBoard logger and one that writes ``metrics.csv``.
        """
        name = self.name or name
        version = _claim(Path(self.root, name)) if self.version is None else self.version
        table = CSVLogger(self.root, name, version)
        # Opened while the folder is empty: it warns of any file beside it, such as the saved configuration.
        _ = table.experiment
        return [TensorBoardLogger(self.root, name, version, default_hp_metric=False), table]


def _claim(folder: Path) -> int:
    """Return the next free version; make its folder at once, so that no parallel run takes it too."""
    taken = [int(path.name.removeprefix("version_")) for path in folder.glob("version_*") if path.name[8:].isdigit()]
    number = max(taken, default=-1) + 1
    if getattr(rank_zero_only, "rank", 0) == 0:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                (folder / f"version_{number}").mkdir()
                break
            except FileExistsError:
                number += 1
    return number
