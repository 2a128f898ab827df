"""Benchmark of trajectories: errors against those of a single pass."""

import argparse
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.trajectories import WAYS, Measured, estimate, main, train, walk
from datamodules import SyntheticPairs
from tabattn.pairs import TNPD
from tabattn.tasks import PairInference
from tests.helpers import build

TINY = [
    "--model.network.dim=8",
    "--model.network.heads=2",
    "--model.network.hidden=8",
    "--model.network.layers=2",
    "--trainer.accelerator=cpu",
]


@pytest.mark.slow
def test_a_report_and_a_picture_of_every_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "t.png"
    few = ["--points", "8", "12", "--steps=1", "--batches=1", "--before", "--data.batch_size=4"]
    main([*few, f"--out={out}", *TINY])
    text = out.with_suffix(".md").read_text()
    assert text in capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in text.splitlines() if line.startswith("| ")]
    wanted = [[f"{n} + {n}", training] for n in (8, 12) for training in ("every size", "one size")]
    assert rows[2:] == wanted
    assert out.exists()
    with pytest.raises(SystemExit):
        main(["--points", "3"])


def test_without_attention_to_its_own_points_a_trajectory_is_one_pass() -> None:
    """An untrained network without residual answers alike whatever it is given."""
    data = build(SyntheticPairs, "const", points=(6, 6), context=2, batch_size=3, evaluation__test_batches=2)
    task = PairInference(partial(TNPD, dim=8, heads=2, hidden=8, layers=2))
    task.network.scale(data.scaling)
    errors, found = walk(task.eval().network, list(data.test_dataloader()), seed=0)
    assert errors.shape == (len(WAYS), 6, 4)
    torch.testing.assert_close(errors[1], errors[0])
    assert not errors[2].isclose(errors[0]).all()
    assert found.samples.shape == (1, 3, 4)


def test_a_standard_error_is_the_spread_over_tasks() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1))
    found = estimate(lambda tasks: float(values[tasks].mean()), 400)
    assert found.value == pytest.approx(float(values.mean()))
    assert found.error == pytest.approx(400**-0.5, rel=0.2)


def test_ratios_are_those_of_medians_to_one_pass_and_to_the_fewest_known() -> None:
    errors = torch.tensor([1.0, 4.0, 9.0])[:, None, None].expand(3, 5, 2)
    known = {n: torch.full((5,), error) for n, error in ((2, 4.0), (4, 1.0), (6, 0.25))}
    run = Measured(8, "every size", errors, known, 0.0, 0.0, None)  # type: ignore[arg-type]
    assert run.ratios() == [(2.0, 0.0), (3.0, 0.0)]
    assert run.by_known() == [2.0, 1.0, 0.5]
    assert run.gains() == [(0.5, 0.0), (0.25, 0.0)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_more_true_points_never_make_a_trained_network_worse_and_trajectories_hold() -> None:
    options = argparse.Namespace(seed=0, steps=1500, batches=8, further=["--trainer.accelerator=cpu"])
    run = train(24, "every size", options)
    few, more, most = run.by_known()
    assert most < more < few
    once, mean, sample = run.medians().tolist()
    assert mean <= 1.25 * once
    assert sample <= 1.5 * once
