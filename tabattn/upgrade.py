"""Migration of configurations and checkpoints of earlier versions; see ``tabattn.convert``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule

import datamodules
import tabattn.tasks
from tabattn.contract.errors import DataError
from tabattn.storage import checkpoint_files, earlier, trusted
from tabattn.storage.class_paths import load_yaml
from tabattn.storage.files import write_checkpoint, write_file

COMMANDS = ("fit", "validate", "test", "predict")
KINDS: dict[str, tuple[Any, type]] = {
    "model": (tabattn.tasks, LightningModule),
    "data": (datamodules, LightningDataModule),
}
"""Parts of a configuration that name a class: the module that resolves its bare name, and its base class."""


def upgrade_config(source: Path, out: Path) -> list[str]:
    """Migrate a configuration file; comments at its head are kept.

    Returns:
        A line for each argument that moved.

    Raises:
        DataError: A file cannot be read or written, or is no configuration.
        ValueError: Arguments are invalid, or name a class that is not allowed.
    """
    try:
        text = source.read_text(encoding="utf-8")
        config = load_yaml(text)
    except (OSError, UnicodeDecodeError) as ex:
        raise DataError(f"{source} cannot be read: {getattr(ex, 'strerror', None) or ex}") from ex
    except yaml.YAMLError as ex:
        raise DataError(f"{source} is no YAML: {' '.join(str(ex).split())}") from ex
    if not isinstance(config, dict):
        raise DataError(f"{source} is no configuration: it has no model")
    said = [line for part in (config, *map(config.get, COMMANDS)) for line in _upgrade_parts(part)]
    head = "".join(line + "\n" for line in _head(text))
    try:
        write_file(out, (head + yaml.safe_dump(config, sort_keys=False, width=120)).encode())
    except OSError as ex:
        raise DataError(f"{out} cannot be written: {ex.strerror}") from ex
    return said


def upgrade_checkpoint(source: Path, out: Path) -> list[str]:
    """Migrate the hyperparameters in a checkpoint of a task; weights and all else are kept.

    Returns:
        A line for each argument that moved.

    Raises:
        DataError: A file cannot be read or written, or is no checkpoint.
        ValueError: Arguments are invalid, or name a class that is not allowed.
    """
    checkpoint = checkpoint_files.read(source)
    given = checkpoint.get("hyper_parameters", {})
    cls = trusted.resolve(given.get("_class_path"), LightningModule)
    today = earlier.upgraded(cls, given)
    try:
        write_checkpoint(out, checkpoint | {"hyper_parameters": today})
    except (OSError, RuntimeError) as ex:
        raise DataError(f"{out} cannot be written: {ex}") from ex
    return list(earlier.differences(given, today, earlier.moves(cls)))


def _upgrade_parts(config: Any) -> Iterator[str]:
    """Migrate the parts of a configuration in place, and yield a line for each argument that moved."""
    for part, (home, base) in KINDS.items():
        described = config.get(part) if isinstance(config, dict) else None
        if not isinstance(described, dict) or not isinstance(arguments := described.get("init_args"), dict):
            continue
        path = described.get("class_path")
        if path is None:
            raise ValueError(f"{part} has no class_path: give the whole configuration that it is laid over")
        known = getattr(home, str(path), None)
        if known is None and "." not in str(path):
            continue  # A class of the user's own: nothing to migrate.
        cls = known if isinstance(known, type) else trusted.resolve(path, base)
        described["init_args"] = today = earlier.upgraded(cls, arguments)
        for line in earlier.differences(arguments, today, earlier.moves(cls)):
            yield f"{part}.{line}"


def _head(text: str) -> Iterator[str]:
    """Yield the comment lines at the head of a file."""
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line


def is_of_task(path: Path) -> bool:
    """Whether a file is a checkpoint of a task of this project, not of another program."""
    try:
        content = checkpoint_files.load(path)
    except (DataError, ValueError):
        return False
    return isinstance(content, dict) and "hyper_parameters" in content and "state_dict" in content
