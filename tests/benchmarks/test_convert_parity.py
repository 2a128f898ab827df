"""Parity of converted checkpoints, on a checkout of a program that stands for the original."""

from pathlib import Path

import pytest
import torch

from benchmarks.convert_parity import main
from tests import foreign

PROGRAM = """
import numpy as np
import torch
from tests import foreign


class NanoTabPFNModel(torch.nn.Module):
    def __init__(self, dim, heads, hidden, layers, classes, kind):
        super().__init__()
        self.layers, self.kind = layers, kind

    def load_state_dict(self, weights):
        self.weights = weights

    def forward(self, data, train_test_split_index):
        return foreign.reference(self.weights, self.kind, self.layers, *data, train_test_split_index) * SCALE


class NanoTabPFNClassifier:
    def __init__(self, model, device):
        self.model = model

    def fit(self, x, y):
        self.x, self.y, self.classes = x, y, y.max() + 1

    def predict_proba(self, x):
        table = torch.tensor(np.concatenate([self.x, x]), dtype=torch.float32)[None]
        logits = self.model((table, torch.tensor(self.y)[None]), len(self.y))[0, :, : self.classes]
        return logits.softmax(-1).numpy()
"""


@pytest.mark.parametrize(("scale", "status"), [("1", 0), ("1.01", 1)])
def test_every_checkpoint_is_compared(
    scale: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(foreign, "HEADS", 4)  # what a converter takes where a file does not say
    torch.manual_seed(0)
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "model.py").write_text(PROGRAM.replace("SCALE", scale))
    for kind in ("Original", "Scratch"):
        torch.save(foreign.make(kind, 1), checkout / f"{kind.lower()}_attention.pt")
    assert main(["--original", str(checkout), "--out", str(tmp_path / "report.md")]) == status
    text = (tmp_path / "report.md").read_text()
    assert text == capsys.readouterr().out
    near = 0 if status else 2
    assert f"{near} of 2 networks differ by at most 0.001" in text
    assert f"{near} of 2 differ by at most 0.0001" in text
    first = next(line for line in text.splitlines() if line.startswith("| original_attention.pt | Original |"))
    theirs, ours = first.split("|")[-2].split("/")
    assert float(theirs) == pytest.approx(float(ours), abs=1e-3)
