"""Training steps beside original programs: paired ratios, matrix products alone, and what is asked for."""

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import originals
from benchmarks.originals import FILES, Beside, Products, arguments, main, measured


def test_products_of_a_step_are_kept() -> None:
    layer = nn.Linear(3, 2)
    x = torch.randn(5, 3)

    def step() -> None:
        layer.zero_grad()
        layer(x).tanh().sum().backward()

    step()
    with Products() as products:
        step()
    assert len(products.calls) == 2  # Of the layer, and of the gradient of its weights.
    weights = layer.weight.grad
    products.again()
    assert layer.weight.grad is weights


def test_ratios_are_those_of_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(originals.time, "process_time", lambda: now[0])
    monkeypatch.setattr(originals, "peak_bytes", lambda step, device: {ours: 2**20, theirs: 2**22}[step])
    monkeypatch.setattr(Products, "again", lambda self: now.__setitem__(0, now[0] + 0.5))

    def ours() -> None:
        now[0] += 1

    def theirs() -> None:
        now[0] += 6

    cells = measured(Beside("name", ours, theirs, (10, 20)), 3)
    assert cells == ["name", "6e+03", "1e+03", "3.00", "0.50", "6.00", "4", "1", "2.00"]


def test_the_prior_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.py").write_text("")
    for name, value in {"BATCH": 1, "ROWS": 6, "CONTEXT": 4, "FEATURES": 2}.items():
        monkeypatch.setattr(originals.prior_step, name, value)
    monkeypatch.setattr(originals.prior_step, "original", lambda *_: originals.prior_step.ours())
    out = tmp_path / "out.md"
    main(["--prior", str(tmp_path), "--steps=1", "--out", str(out)])
    text = out.read_text()
    assert capsys.readouterr().out == text
    assert "--prior <checkout> --steps 1" in text
    assert [line.split("|")[1].strip() for line in text.splitlines()[-2:]] == [
        "prior, NanoTabPFN",
        "prior, PriorNetwork",
    ]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task, file in FILES.items():
        with pytest.raises(SystemExit):
            arguments([f"--{task}", str(tmp_path)])
        assert f"there is no {tmp_path / file}" in capsys.readouterr().err
