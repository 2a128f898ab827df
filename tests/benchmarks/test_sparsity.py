"""Programs that measure sparse attention run, and say what they measured."""

from pathlib import Path

import pytest
import torch

from benchmarks import sparsity, sparsity_heads
from datamodules.sparsity.records import Item, Kept, write_records
from tabattn.contract.queries_keys import Layer


def test_speed_is_told_of_each_structure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sparsity.md"
    sparsity.main(["--lengths", "600", "--repeats", "1", "--heads", "1", "--clusters", "4", "--out", str(out)])
    text = out.read_text()
    assert text == capsys.readouterr().out
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| 600")]
    assert [row[1] for row in rows] == ["low rank", "clusters", "isotropic"]
    assert all(float(row[7]) < 1e-4 for row in rows)
    assert float(rows[0][6].rstrip("%")) < 100


def test_kernels_are_told_with_speed_or_the_reason() -> None:
    options = sparsity.arguments(["--heads", "1", "--clusters", "4", "--repeats", "1"])
    row = sparsity.measured("low rank", sparsity.low_rank(1, 600, 16), options)
    fused = sparsity.kernels(sparsity.low_rank(1, 600, 16), options)
    x = sparsity.low_rank(1, 600, 16)
    found, reasons = sparsity.usable(fused | {"Softmax": sparsity.Softmax(1, 16)}, lambda each: lambda: each(*x))
    assert list(found) == ["Softmax"]
    assert reasons["FlexAttention"] == "flex needs a CUDA device, got cpu"
    told = row._replace(kernels={"exact": "error 1e-06"} | reasons)
    lines = sparsity.kernel_table([told]).splitlines()
    assert lines[-1] == "| 600 | low rank | FlexAttention |  |  |  | flex needs a CUDA device, got cpu |"
    assert lines[-3].split(" | ")[3] == f"{row.forward['Entmax'] / row.forward['exact']:.2f}"


def test_keys_scored_are_told_of_each_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = Layer("blocks.0", 2, 4, (1.5, 1.5), 0.5)
    tight = 8 * torch.eye(4).repeat(8, 1)
    q, k = (torch.stack((tight, torch.randn(32, 4))) for _ in range(2))
    item = Item(q, k)
    file = tmp_path / "a.h5"
    write_records(file, Kept([(layer, [item])]))
    out = tmp_path / "heads.md"
    sparsity_heads.main([str(file), "--least", "32", "--out", str(out)])
    rows = [line.split(" | ") for line in out.read_text().splitlines() if line.startswith("| `blocks.0`")]
    assert [row[1:3] for row in rows] == [["0", "32"], ["1", "32"]]
    assert float(rows[0][3]) == 8.0
    with pytest.raises(SystemExit, match="no item of at least 512 keys"):
        sparsity_heads.main([str(file), "--out", str(out)])
