"""Shipped weights of synthetic pairs: sizes, scores beside the oracle, and units of own tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

from datamodules import SyntheticPairs
from datamodules.pairs import SyntheticEvaluation
from tabattn import SequenceInferrer
from tabattn.pairs.estimator import WindowOptions
from tabattn.pairs.package_weights import main
from tabattn.pairs.weights import SHIPPED, load_network, shipped_path
from tabattn.tasks import PairInference
from tests.pairs.estimator.cases import NETWORK, TINY

BOUNDS = {"const": 0.75, "rbf_const_2D": 0.75, "rbf_rbf_2D": -1.6}
"""Least mean log-likelihood of a target, in nats, of 4 test batches of each kind."""


def pair(rows: int = 40, known: int = 12) -> tuple[pd.DataFrame, pd.Series]:
    """Two parallel curves with an offset; the first is whole."""
    x = np.linspace(0, 10, rows)
    curve = np.sin(x) + 0.3 * np.cos(2.3 * x)
    frame = pd.DataFrame({"x": x, "model": curve, "record": curve + 1.5})
    truth = frame["record"][known:].copy()
    frame.loc[known:, "record"] = np.nan
    return frame, truth


def pretrained(kind: str = "const", **options: Any) -> SequenceInferrer:
    return SequenceInferrer.from_pretrained(kind, WindowOptions(x="x", length=40), device="cpu", **options)


@pytest.mark.parametrize("kind", SHIPPED)
def test_weights_are_small_and_those_of_their_card(kind: str) -> None:
    found = load_network(kind)
    assert shipped_path(kind).stat().st_size < 1_000_000
    assert found.facts["kind"] == kind
    few = SyntheticEvaluation(test_batches=4)
    data = SyntheticPairs(kind, batch_size=8, evaluation=few)
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in data.test_dataloader():
            density = found.network(batch.x, batch.y, batch.member, batch.context)
            total += float(density.log_prob(batch.y[:, batch.context :]).sum())
            count += density.mean.numel()
    assert total / count > BOUNDS[kind]


def test_a_parallel_curve_is_inferred_from_the_other_one() -> None:
    frame, truth = pair()
    means, stds = pretrained().predict(frame, return_std=True)
    assert np.sqrt(np.mean((means - truth) ** 2)) < 0.1
    assert (np.abs(means - truth) < 5 * stds).all()


@pytest.mark.parametrize("kind", SHIPPED)
def test_units_of_a_table_do_not_matter(kind: str) -> None:
    frame, _ = pair()
    means, stds = pretrained(kind).predict(frame, return_std=True)
    other = frame.assign(x=frame["x"] * 60 + 7, model=frame["model"] * 1e4 - 3e5, record=frame["record"] * 1e4 - 3e5)
    moved, wide = pretrained(kind).predict(other, return_std=True)
    np.testing.assert_allclose((moved + 3e5) / 1e4, means, atol=1e-3)
    np.testing.assert_allclose(wide / 1e4, stds, rtol=1e-2)


def test_each_sequence_has_a_level_of_its_own() -> None:
    frame, _ = pair()
    means = pretrained().predict(frame)
    np.testing.assert_allclose(pretrained().predict(frame.assign(record=frame["record"] + 500)) - 500, means, atol=1e-3)


def test_a_unit_of_locations_is_the_length_of_one() -> None:
    frame, _ = pair()
    np.testing.assert_allclose(pretrained(unit=1.0).predict(frame), pretrained().predict(frame), atol=1e-4)
    assert not np.allclose(pretrained(unit=3.0).predict(frame), pretrained().predict(frame), atol=1e-2)
    with pytest.warns(UserWarning, match=r"x leaves the range of training \[5, 15\]: it goes from 5 to 25"):
        pretrained(unit=0.5).predict(frame)
    with pytest.raises(ValueError, match="unit must be None or above 0, got 0"):
        pretrained(unit=0)


def test_names_are_free_and_their_number_is_not() -> None:
    frame, _ = pair()
    renamed = frame.rename(columns={"model": "p", "record": "q"})
    np.testing.assert_array_equal(pretrained().predict(renamed), pretrained().predict(frame))
    with pytest.raises(ValueError, match="the network tells 2 sequences apart, X has 3"):
        pretrained().predict(frame.assign(third=1.0))
    assert np.isfinite(pretrained().score(pair(known=40)[0]))


def test_a_pretrained_estimator_is_saved_and_trained_further(tmp_path: Path) -> None:
    frame, _ = pair()
    model = pretrained(unit=2.0)
    model.save(tmp_path / "m.safetensors")
    loaded = SequenceInferrer.load(tmp_path / "m.safetensors", "cpu")
    np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))
    source = np.random.default_rng(0)
    x = np.arange(200.0)
    series = pd.DataFrame({"x": x, "a": np.sin(x / 3), "b": np.sin(x / 3) + 2 + 0.1 * source.normal(size=200)})
    tuned = loaded.set_params(max_steps=2, context=8, validation_fraction=0).fit(series)
    start = load_network("const").network.state_dict()
    for name, value in tuned.network_.state_dict().items():
        if name != "extent":
            assert (value - start[name]).abs().max() < 0.3
    assert (tuned.names_, tuned.level_) == (("a", "b"), None)
    with pytest.raises(ValueError, match="the weights tell 2 sequences apart, X has 3"):
        tuned.fit(series.assign(c=series["a"] * 2))


def test_unknown_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shipped weights are const, rbf_const_2D, rbf_rbf_2D, .*; got 'cosnt'"):
        pretrained("cosnt")
    with pytest.raises(FileNotFoundError, match="there are no weights at"):
        pretrained(str(tmp_path / "none.safetensors"))


def test_weights_are_packaged_from_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = SyntheticPairs(points=(8, 8), context=3, batch_size=2, evaluation=SyntheticEvaluation(val_batches=1))
    task = PairInference(NETWORK)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    trainer = Trainer(max_steps=1, default_root_dir=tmp_path, **quiet)
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    out = tmp_path / "own.safetensors"
    given = [
        "const",
        str(tmp_path / "run.ckpt"),
        "--out",
        str(out),
        "--fact",
        "hardware=one core",
        "--dtype",
        "float32",
    ]
    assert main(given) == 0
    assert "own.safetensors: 0.0" in capsys.readouterr().out
    found = load_network(out)
    assert found.facts["training"]["hardware"] == "one core"
    assert found.facts["training"]["steps"] == 1
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        expected, density = task.eval()(batch), found.network(batch.x, batch.y, batch.member, batch.context)
    torch.testing.assert_close(density.mean, expected.mean)
    frame, _ = pair()
    assert np.isfinite(pretrained(str(out), settings=TINY).predict(frame)).all()
    with pytest.raises(SystemExit):
        main(["const", str(tmp_path / "run.ckpt"), "--out", "own.bin"])
    (tmp_path / "none.ckpt").write_bytes(b"nothing")
    assert main(["const", str(tmp_path / "none.ckpt"), "--out", str(out)]) == 3
    assert "error: " in capsys.readouterr().err
