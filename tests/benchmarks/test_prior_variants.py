"""Comparison of network structures: every variant trains, is saved and loads."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import prior_variants
from tabattn.prior.weights import load_network


@pytest.fixture
def config(tmp_path: Path) -> Path:
    whole = yaml.safe_load(prior_variants.CONFIG.read_text())
    small = {"rows": [16, 20], "features": [2, 3], "classes": [2, 3], "batch_size": 2, "num_workers": 0}
    whole["data"]["init_args"] |= small
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


@pytest.mark.parametrize("name", prior_variants.VARIANTS)
def test_every_variant_can_be_built(name: str) -> None:
    runner = prior_variants.build(name, {"lr": 0.01}, "cpu")
    assert runner.rates == [0.01, 3e-3]
    assert sum(parameter.numel() for parameter in runner.task.network.parameters()) < 2_500_000


def test_variants_train_on_the_same_tables(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_variants, "EACH", 1)
    tiny: dict[str, Any] = {"dim": 16, "hidden": 16, "layers": 2}
    rows = {"order": "rows", "summaries": 1, "row_layers": 1, "row_dim": 12, "row_hidden": 16}
    monkeypatch.setattr(prior_variants, "VARIANTS", {"one": tiny, "two": {**tiny, "options": rows}})
    out = tmp_path / "out"
    given = ["--config", str(config), "--device", "cpu", "--out", str(out), "--variants", "one", "two"]
    prior_variants.main([*given, "--seconds", "1.5", "--workers", "0", "--fall", "0.2"])
    with (out / "steps.csv").open() as file:
        steps = list(csv.DictReader(file))
    assert {row["variant"] for row in steps} == {"one", "two"}
    assert all(math.isfinite(float(row["loss"])) for row in steps)
    for name in ("one", "two"):
        before, after = (load_network(out / f"{name}{ending}.ckpt") for ending in (".stable", ""))
        moved = [bool((a != b).any()) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
        assert any(moved)
    assert load_network(out / "two.ckpt").options.row_dim == 12
    assert "| two |" in (out / "report.md").read_text()


def test_the_rate_rises_stays_and_falls() -> None:
    shares = (0.0, 0.01, 0.02, 0.3, 0.6, 0.8, 1.0)
    rates = [prior_variants.rate(share, 0.6) for share in shares]
    assert rates == pytest.approx([0.05, 0.5, 1.0, 1.0, 1.0, 0.5, 0.01])
    assert prior_variants.rate(0.99, 1.0) == 1.0
