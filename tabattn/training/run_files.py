"""Metrics table and configuration in a run folder."""

import csv
import io
import os
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from tabattn.storage.files import write_file
from tabattn.storage.hyperparameters import import_path


class MetricsTable(CSVLogger):
    """CSV logger whose ``metrics.csv`` a resumed run appends to."""

    @property
    def experiment(self) -> Any:
        """CSV writer on rank 0; a dummy on all other ranks."""
        if self._experiment is None and getattr(rank_zero_only, "rank", 0) == 0:
            os.makedirs(self.log_dir, exist_ok=True)
            self._experiment = MetricsWriter(self.log_dir)
        return super().experiment


class MetricsWriter(ExperimentWriter):
    """CSV writer that appends rows; for a new column the file is rewritten atomically.

    Args:
        log_dir: Folder of ``metrics.csv``.
    """

    def _check_log_dir_exists(self) -> None:
        """Append to an existing file: take over its columns, and drop a last row that a kill has truncated."""
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        content = path.read_bytes()
        complete_rows = content[: content.rfind(b"\n") + 1]
        if complete_rows != content:
            write_file(path, complete_rows)
        if not complete_rows:
            path.unlink()
            return
        self.metrics_keys = next(csv.reader(io.StringIO(complete_rows.decode())))

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        text = io.StringIO(newline="")
        with open(self.metrics_file_path, newline="") as file:
            rows = list(csv.DictReader(file))
        writer = csv.DictWriter(text, fieldnames)
        writer.writeheader()
        writer.writerows(rows)
        write_file(self.metrics_file_path, text.getvalue().encode())


class SavedConfig(SaveConfigCallback):
    """Callback that writes the configuration atomically: ``config.yaml``, or else ``config_<command>.yaml``.

    The latter if the folder already holds the ``config.yaml`` of a training.

    Args:
        parser: Parser of the command.
        config: Parsed configuration.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.folder: str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Get the run folder on all ranks (a collective call), and write on rank 0."""
        self.folder = trainer.log_dir
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert self.folder is not None
        path = Path(self.folder, self.config_filename)
        if stage != "fit" and path.exists():
            path = path.with_stem(f"{path.stem}_{getattr(stage, 'value', stage)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, self.parser.dump(public(self.config), skip_unset=False).encode())


def public(value: Any) -> Any:
    """Replace every class path in a configuration by the public one, such as ``tabattn.tasks.PairInference``."""
    if isinstance(value, Namespace):
        return Namespace(public(vars(value)))  # type: ignore[no-untyped-call]
    if isinstance(value, dict):
        return {key: _path(part) if key == "class_path" else public(part) for key, part in value.items()}
    return [public(part) for part in value] if isinstance(value, list) else value


def _path(path: Any) -> Any:
    """Public class path of a class; other text is returned unchanged."""
    try:
        found = resolve_name(path)
    except (ValueError, TypeError, ImportError, AttributeError):
        return path
    return import_path(found) if isinstance(found, type) else path
