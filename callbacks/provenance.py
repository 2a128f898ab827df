"""Provenance of a run: configuration, versions, git state and data fingerprint, as text and as a file."""

import json
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.board import writers
from callbacks.run_configuration import configuration_of, plain
from tabattn.storage.files import write_file
from tabattn.storage.provenance import code_version, data_files, data_fingerprint, git_state, versions

FILE = "provenance.json"


class Provenance(Callback):
    """Records what a run is made of: its configuration, versions, code and data.

    ``provenance.json`` in the run folder holds the versions of Python and of the libraries, the checksum of the
    project's sources, the commit of the checkout and whether it was changed, and the *data fingerprint*: a checksum of
    the datamodule's configuration and of the bytes of every file that it names, so that two runs with one fingerprint
    have read the same data. TensorBoard's tab of texts has the same, and the resolved configuration. Only rank 0
    writes, once, when the run starts; a resumed run writes anew.
    """

    def __init__(self) -> None:
        self.folder = Path()
        self.written = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run folder; a collective call."""
        self.folder, self.written = Path(trainer.log_dir or trainer.default_root_dir), False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer, pl_module)

    on_validation_start = on_test_start = on_predict_start = on_fit_start

    def _write(self, trainer: Trainer, task: LightningModule) -> None:
        # A validation within a training is no run of its own.
        if self.written or not trainer.is_global_zero:
            return
        self.written = True
        config = configuration_of(trainer, task, self.folder)
        found = gathered(config)
        if not getattr(trainer, "fast_dev_run", False):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(self.folder / FILE, f"{json.dumps(found, indent=2)}\n".encode())
        for writer in writers(trainer):
            writer.add_text("run/configuration", _block(yaml.safe_dump(config, sort_keys=False)), trainer.global_step)
            for name, part in found.items():
                writer.add_text(f"run/{name}", _table(part), trainer.global_step)


def gathered(config: dict[str, Any]) -> dict[str, Any]:
    """Versions, code and data of a run with a configuration."""
    data = plain(config.get("data"))
    return {
        "versions": versions(),
        "code": {"version": code_version(), **(git_state() or {"commit": None})},
        "data": {"fingerprint": data_fingerprint(data), "files": data_files(data)},
    }


def _block(text: str) -> str:
    """Text as a Markdown block of code."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _table(part: dict[str, Any]) -> str:
    """Markdown table of names and values."""
    rows = [f"| {name} | {_cell(value)} |" for name, value in part.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {each[:16]}" for name, each in value.items()) or "none"
    return str(value).replace("|", "\\|")
