"""Report of the comparison with the original code of Non-Parametric Transformers, and its weights under our names."""

from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from benchmarks.npt_entrants import CONFIG, configured, default, legacy, translated
from benchmarks.npt_original import Measured, arguments, table
from benchmarks.reports import QUIET
from tabattn.reconstruction import ProcessTransformer
from tabattn.tasks import TableReconstruction
from tabattn.training.cli import CLI


def test_speeds_are_medians_of_paired_steps() -> None:
    seconds = {"original": [2.0, 4.0, 9.0], "LegacyNPT": [1.0, 1.0, 3.0]}
    sizes = {"original": 12_837_392, "LegacyNPT": 5}
    found = table({16: Measured(seconds, sizes, {"original": 983_000_000, "LegacyNPT": 1_000_000})})
    assert found[2:] == [
        "| 16 | original | 12,837,392 | 4.000 | 1.00 | 983 |",
        "| 16 | LegacyNPT | 5 | 1.000 | 3.00 | 1 |",
    ]


def test_a_folder_without_the_original_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--original", str(tmp_path)])
    assert f"original: {tmp_path} is no checkout of it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        arguments(["--original", str(tmp_path), "--dim", "16", "12"])
    assert "dim must be a multiple of 8, got 12" in capsys.readouterr().err


def test_a_step_trains() -> None:
    entrant = legacy(8)
    before = [parameter.detach().clone() for parameter in entrant.network.parameters()]
    entrant.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, entrant.network.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2


def test_the_default_is_the_configuration_as_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(40, 3))
    rows[:, 2] = rows[:, 0] ** 2
    pd.DataFrame(rows, columns=["a", "b", "price"]).to_csv("table.csv", index=False)
    chosen = yaml.safe_load(CONFIG.read_text())
    chosen["data"]["init_args"] |= {"table": "table.csv", "target": "price"}
    chosen["trainer"]["max_steps"] = 3
    chosen["model"]["init_args"]["network"]["init_args"] |= {"dim": 8, "hidden": 8, "layers": 1, "dropout": 0.0}
    lightning.seed_everything(0)
    entrant = configured(chosen)
    before = [buffer.clone() for buffer in entrant.network.processes.buffers()]
    for _ in range(3):
        entrant.step()
    options = ["--data.table=table.csv", "--data.target=price", "--trainer.max_steps=3", "--model.network.dim=8"]
    options += [
        "--model.network.hidden=8",
        "--model.network.layers=1",
        "--model.network.dropout=0.0",
        "--trainer.accelerator=cpu",
    ]
    cli = CLI([f"--config={CONFIG}", *QUIET, *options, "--trainer.limit_val_batches=0"], run=False)
    lightning.seed_everything(0)
    assert isinstance(cli.model, TableReconstruction)
    cli.model.check_data(cli.datamodule)
    cli.trainer.fit(cli.model, cli.datamodule)
    trained = dict(cli.model.network.named_parameters())
    fitted = [not torch.equal(*pair) for pair in zip(before, entrant.network.processes.buffers(), strict=True)]
    assert sum(fitted) >= 4  # The processes were fitted.
    assert entrant.average is not None
    for name, parameter in entrant.average.module.named_parameters():
        torch.testing.assert_close(parameter, trained[name], rtol=1e-4, atol=1e-6)
    assert isinstance(default().network, ProcessTransformer)


def test_names_of_the_original() -> None:
    names = ["enc.1.mab.fc_q.weight", "enc.3.mab.rff.3.bias", "enc.5.mab.ln1.weight", "in_embedding.2.bias"]
    assert list(translated(dict.fromkeys(names, torch.zeros(1)))) == [
        "blocks.0.rows.query.weight",
        "blocks.0.features.mlp.3.bias",
        "blocks.1.rows.mlp_norm.weight",
        "embedding.columns.2.bias",
    ]
