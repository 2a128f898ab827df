"""Benchmark of the drop: picture and report."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.drop import CONFIG, VARIANTS, apart, main
from tabattn.contract.batches import PairBatch
from tabattn.training.cli import CLI

TINY = ["--model.network.dim=8", "--model.network.heads=2", "--model.network.hidden=8", "--model.network.layers=2"]
TINY += ["--data.batch_size=4", "--data.evaluation.test_batches=2", "--trainer.accelerator=cpu"]


@pytest.mark.slow
def test_a_picture_and_a_report_of_every_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "drop.png"
    main(["--steps=1", "--tasks=1", "--samples=2", f"--out={out}", *TINY])
    with Image.open(out) as image:
        assert image.width > 2 * image.height
    text = out.with_suffix(".md").read_text()
    assert text in capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    assert rows == ["network", "---", *VARIANTS, "exact predictive density"]
    assert "](drop.png)" in text


def test_two_networks_differ_only_in_the_member_encoding() -> None:
    """What the labels cure is told from what the rest adds."""
    chosen = []
    for name in ("labels hidden from attention", "labels told"):
        config = CLI([f"--config={CONFIG}", "--trainer.accelerator=cpu", *VARIANTS[name]], run=False).config
        embedding = config.model.init_args.network.init_args.tokens.pop("member_embed")
        chosen.append((embedding, config.model.as_dict(), config.data.as_dict()))
    (hidden, *rest), (told, *other) = chosen
    assert (hidden, told) == ("hidden", "one_hot")
    assert rest == other


def test_the_tasks_farthest_apart_are_shown() -> None:
    member = torch.tensor([[0, 0, 1, 1]]).expand(3, 4)
    y = torch.tensor([[0.0, 1, 1, 2], [0, 0, -5, -6], [3, 4, 0, 0]])
    found = apart(PairBatch(y + 1, y, member, 2), 2)
    assert torch.equal(found.y, y[[1, 2]])
    assert torch.equal(found.x, y[[1, 2]] + 1)
    assert found.context == 2
