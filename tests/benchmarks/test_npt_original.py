"""Report of the comparison with the original code of Non-Parametric Transformers, and its weights under our names."""

from pathlib import Path

import pytest
import torch

from benchmarks.npt_entrants import legacy, translated
from benchmarks.npt_original import Measured, arguments, table


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


def test_names_of_the_original() -> None:
    names = ["enc.1.mab.fc_q.weight", "enc.3.mab.rff.3.bias", "enc.5.mab.ln1.weight", "in_embedding.2.bias"]
    assert list(translated(dict.fromkeys(names, torch.zeros(1)))) == [
        "blocks.0.rows.query.weight",
        "blocks.0.features.mlp.3.bias",
        "blocks.1.rows.mlp_norm.weight",
        "embedding.columns.2.bias",
    ]
