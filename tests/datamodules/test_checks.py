"""Datamodules are never loaded from checkpoints."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule

import datamodules
from tabattn.contract.checks import NotInCheckpoints


def test_no_datamodule_is_built_from_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's method imports the packages that class paths in the file name."""
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = {
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "_class_path": "datamodules.SyntheticPrior",
        "scm": {"class_path": "stranger.Theirs"},
    }
    torch.save({"state_dict": {}, "datamodule_hyper_parameters": arguments}, tmp_path / "a.ckpt")
    found = [each for each in vars(datamodules).values() if isinstance(each, type)]
    assert all(issubclass(each, LightningDataModule) for each in found)
    assert len(found) == len(datamodules.__all__)
    for datamodule in found:
        with pytest.raises(ValueError, match=f"checkpoints hold no arguments of {datamodule.__name__}"):
            datamodule.load_from_checkpoint(tmp_path / "a.ckpt")
        assert datamodule.__mro__.index(NotInCheckpoints) < datamodule.__mro__.index(LightningDataModule)
    assert not (tmp_path / "ran").exists()
