"""The pairs task: loss, metrics, refusals, and short runs."""

import csv
import math
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

import callbacks  # noqa: F401  (makes the names of the commands known)
from datamodules import SyntheticPairs
from tabattn.attention import MECHANISMS
from tabattn.pairs import NETWORKS, TNPD, InferenceOptions
from tabattn.pairs.task import CHAINED
from tabattn.tasks import PairInference
from tabattn.training.cli import main
from tests.helpers import build

CONFIG = str(Path(__file__).parents[2] / "configs" / "pairs.yaml")
TINY: dict[str, Any] = {"dim": 16, "heads": 2, "hidden": 16, "layers": 2}
SMALLEST = partial(TNPD, **TINY)
SMALL = [
    "--model.network.dim=16",
    "--model.network.hidden=16",
    "--model.network.layers=2",
    "--data.points=[8,8]",
    "--data.context=3",
    "--data.batch_size=4",
    "--data.evaluation.val_batches=2",
    "--data.evaluation.test_batches=2",
    "--data.steps_per_epoch=3",
    "--trainer.max_steps=3",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.num_sanity_val_steps=0",
]
NAMED = {"ll", "ll_oracle", "mse", "rmse_first", "r2", "r2_row", "crps", "coverage50", "coverage90", "gap"}


class Learner(PairInference):
    """With the optimizer that the command line would add."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-3)


def data(**changes: Any) -> SyntheticPairs:
    sizes: dict[str, Any] = {"points": (8, 8), "context": 3, "batch_size": 4, "steps_per_epoch": 2}
    return build(SyntheticPairs, **{**sizes, "evaluation__val_batches": 2, "evaluation__test_batches": 2, **changes})


def trainer(folder: Path, **changes: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    return Trainer(default_root_dir=folder, **{**quiet, "max_steps": 2, "use_distributed_sampler": False, **changes})


FAST = {"Softmax", "Local", "Inducing"}
"""Mechanisms whose run through the command line is no slow test: the prior task runs all of them."""


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[pytest.mark.slow] * (each not in FAST)) for each in MECHANISMS]
)
def test_fit_then_test_by_one_flag(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", CONFIG, *SMALL, f"--model.attention={name}"]) == 0
    run = tmp_path / "runs" / "pairs" / name / "version_0"
    checkpoint = run / "checkpoints" / "last.ckpt"
    assert main(["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(checkpoint)]) == 0
    heads = (run / "test_0" / "metrics.csv").read_text().partition("\n")[0].split(",")
    assert {f"test/{figure}" for figure in NAMED} <= set(heads)


@pytest.mark.parametrize("arch", NETWORKS)
def test_every_network_fits_tests_and_predicts(arch: str, tmp_path: Path) -> None:
    task = Learner(partial(NETWORKS[arch], dim=16, hidden=16))
    run, pairs = trainer(tmp_path), data()
    run.fit(task, pairs)
    figures = run.test(task, pairs, verbose=False)[0]
    assert all(math.isfinite(figures[f"test/{name}"]) for name in NAMED)
    assert ("test/ll_joint" in figures) == NETWORKS[arch].one_pass
    predicted = run.predict(task, pairs)
    assert predicted is not None
    assert all(torch.isfinite(drawn.samples).all() for drawn in predicted)


def test_inference_options_come_from_the_command_line_not_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", CONFIG, *SMALL]) == 0
    checkpoint = f"--ckpt_path={next(tmp_path.rglob('last.ckpt'))}"
    asked = ["--model.inference.samples=3", "--model.inference.num_steps=2", "--model.scheduled_sampling=0.25"]
    assert main(["predict", "--config", CONFIG, *SMALL, checkpoint, *asked]) == 0
    files = sorted((tmp_path / "runs").rglob("predictions/*.npz"))
    assert [path.name for path in files] == ["batch00000.npz", "batch00001.npz"]
    with np.load(files[0]) as found:
        assert {"samples", "mean", "quantiles", "batch.x", "batch.y", "batch.member"} <= set(found)
        assert found["samples"].shape == (3, 4, 2)
        assert np.isfinite(found["mean"]).all()
    assert main(["test", "--config", CONFIG, *SMALL, checkpoint, "--model.joint=true"]) == 0
    metrics = tmp_path / "runs" / "pairs" / "Softmax" / "version_0" / "test_0" / "metrics.csv"
    assert "test/ll_joint" in metrics.read_text().partition("\n")[0].split(",")


def test_loss_is_the_mean_over_known_targets() -> None:
    task = PairInference(SMALLEST)
    task.log = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    batch = next(iter(data().train_dataloader()))
    y = batch.y.clone()
    y[0, batch.context] = math.nan
    batch = batch._replace(y=y)
    loss = task.training_step(batch, 0)
    each = task(batch).log_prob(y[:, batch.context :].nan_to_num())
    known = y[:, batch.context :].isfinite()
    torch.testing.assert_close(loss, -each[known].mean())
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in task.parameters() if weight.grad is not None)


def test_units_of_the_data_are_kept_with_the_weights(tmp_path: Path) -> None:
    task, pairs = Learner(SMALLEST), data(process__x_range=(5.0, 15.0))
    run = trainer(tmp_path)
    run.fit(task, pairs)
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = Learner.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert again.network.scaling == task.network.scaling
    assert again.network.scaling[:2] == (5.0, 15.0)
    batch = next(iter(pairs.val_dataloader()))
    torch.testing.assert_close(again(batch).mean, task(batch).mean, rtol=0, atol=0)


def test_locations_beyond_training_cause_one_warning(tmp_path: Path) -> None:
    task = Learner(SMALLEST)
    trainer(tmp_path).fit(task, data(process__x_range=(-2.0, 2.0)))
    with pytest.warns(UserWarning, match=r"x leaves the range of training \[-2, 2\]") as told:
        trainer(tmp_path).test(task, data(process__x_range=(-2.0, 4.0)), verbose=False)
    assert len([each for each in told if "leaves the range" in str(each.message)]) == 1


def test_more_members_than_the_model_tells_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["fit", "--config", CONFIG, *SMALL, "--data.points=[8,8,8]", f"--trainer.default_root_dir={tmp_path}"]
    assert main([*command, f"--run.root={tmp_path}"]) == 2
    assert "the data has 3 members, the network only members=2" in capsys.readouterr().err


def test_joint_likelihood_on_request(tmp_path: Path) -> None:
    task = PairInference(SMALLEST, joint=True)
    figures = trainer(tmp_path).test(task, data(), verbose=False)[0]
    assert math.isfinite(figures["test/ll_joint"])
    assert math.isfinite(figures["test/ll_joint_oracle"])


def test_predictions_are_the_same_twice(tmp_path: Path) -> None:
    task, pairs = PairInference(SMALLEST), data()
    task.network.scale(pairs.scaling)
    batch = next(iter(pairs.test_dataloader()))
    with torch.no_grad():
        first, second, other = (task.trajectories(batch, number) for number in (0, 0, 1))
        task.inference = InferenceOptions(seed=1)
        reseeded = task.trajectories(batch, 0)
    torch.testing.assert_close(first.samples, second.samples, rtol=0, atol=0)
    assert not first.samples.isclose(other.samples).any()
    assert not first.samples.isclose(reseeded.samples).any()


@pytest.mark.parametrize(
    "kind",
    [
        ["--data.kind=tnp", "--data.points=[12]", "--data.context=[3,5]"],
        ["--data.kind=single_noise", "--data.points=[9]"],
    ],
)
def test_single_sequences_are_inferred_and_drawn(
    kind: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [word for word in SMALL if word != "--data.points=[8,8]"] + [*kind, "--data.regime=shuffle"]
    assert main(["fit", "--config", CONFIG, *command, "--trainer.callbacks+=Trajectories"]) == 0
    assert (next(tmp_path.rglob("validation_000003")) / "trajectories.png").exists()
    assert main(["predict", "--config", CONFIG, *command, f"--ckpt_path={next(tmp_path.rglob('last.ckpt'))}"]) == 0
    with next(tmp_path.rglob("batch00000.csv")).open() as file:
        rows = list(csv.DictReader(file))
    with np.load(next(tmp_path.rglob("batch00000.npz"))) as arrays:
        assert len(rows) == np.isfinite(arrays["mean"]).sum() > 4
    assert {row["member"] for row in rows} == {"0"}
    assert all(math.isfinite(float(row[name])) for row in rows for name in ("y", "mean", "sample_9"))


def test_training_logs_its_squared_error_and_the_variance_explained_of_a_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    history = ["--trainer.callbacks+=History", "--trainer.callbacks.metric=[val/member1/r2,train/mse]"]
    assert main(["fit", "--config", CONFIG, *SMALL, *history]) == 0
    with next(tmp_path.rglob("history.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["train/mse"]) > 0 for row in rows)
    assert [row["val/member1/r2"] != "" for row in rows] == [False, False, True]


def test_the_squared_error_of_training_is_that_of_its_means() -> None:
    task, pairs = Learner(SMALLEST), data()
    task.network.scale(pairs.scaling)
    logged: dict[str, float] = {}
    task.log = lambda name, value, **_: logged.update({name: value.item()})  # type: ignore[method-assign]
    batch = next(iter(pairs.train_dataloader()))
    batch.y[0, batch.context] = math.nan
    task.training_step(batch, 0)
    error = (task(batch).mean - batch.y[:, batch.context :]).square()
    assert logged["train/mse"] == pytest.approx(error.nanmean().item(), rel=1e-5)


def test_the_data_tells_whether_it_is_complete(tmp_path: Path) -> None:
    task = Learner(SMALLEST)
    trainer(tmp_path).fit(task, data())
    assert task.network.complete
    trainer(tmp_path).validate(task, data().val_dataloader(), verbose=False)
    assert not task.network.complete


@pytest.mark.filterwarnings("ignore:x leaves the range of training")
def test_a_training_from_other_weights_has_the_units_of_its_data_and_a_test_those_of_the_weights(
    tmp_path: Path,
) -> None:
    trained = trainer(tmp_path, enable_checkpointing=False)
    trained.fit(Learner(SMALLEST), data())
    trained.save_checkpoint(tmp_path / "first.ckpt", weights_only=True)
    other = data(kind="icm")
    assert other.scaling != data().scaling
    for stage, units in (("fit", other.scaling), ("test", data().scaling)):
        task = Learner(SMALLEST, init_from=str(tmp_path / "first.ckpt"))
        getattr(trainer(tmp_path, enable_checkpointing=False), stage)(task, other)
        assert task.network.scaling == pytest.approx(units)


def test_more_processes_may_draw_batches_to_score(tmp_path: Path) -> None:
    task = PairInference(SMALLEST)
    found = [trainer(tmp_path).test(task, data(num_workers=number), verbose=False)[0] for number in (0, 2)]
    assert found[0] == pytest.approx(found[1])


def test_trajectories_are_scored_beside_one_pass(tmp_path: Path) -> None:
    """Of the first tasks of each batch: what each step adds to the next one's error cannot hide."""
    pairs, task = data(batch_size=5), PairInference(SMALLEST)
    with torch.no_grad():
        for weight in task.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    found = trainer(tmp_path).test(task, pairs, verbose=False)[0]
    assert found["test/rmse"] == pytest.approx(math.sqrt(found["test/mse"]))
    errors: dict[str, list[torch.Tensor]] = {"rmse_chain_once": [], "rmse_chain": []}
    for batch in pairs.test_dataloader():
        x, y, member = (part[:CHAINED] for part in (batch.x, batch.y, batch.member))
        known, asked = y[:, : batch.context], y[:, batch.context :]
        with torch.no_grad():
            errors["rmse_chain_once"].append(task.network(x, known, member, batch.context).mean - asked)
            for count in range(batch.context, x.shape[1]):
                mean = task.network(x[:, : count + 1], known, member[:, : count + 1], count).mean
                known = torch.cat([known, mean], 1)
        errors["rmse_chain"].append(known[:, batch.context :] - asked)
    wanted = {f"test/{name}": float(torch.cat(each).square().mean().sqrt()) for name, each in errors.items()}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-4)
    assert found["test/rmse_chain_sample"] > 0
    validated = trainer(tmp_path).validate(task, pairs, verbose=False)[0]
    assert not any("chain" in name for name in validated)


def test_tasks_without_all_targets_have_trajectories_of_the_others(tmp_path: Path) -> None:
    batch = next(iter(data(process__x_range=(-2.0, 2.0)).test_dataloader()))
    y = batch.y.clone()
    y[0, batch.context + 1] = y[1, :] = math.nan
    padding = torch.zeros_like(y, dtype=torch.bool)
    padding[1, -2:] = True
    loader = DataLoader([batch._replace(y=y, padding=padding, oracle=None)], batch_size=None)
    found = trainer(tmp_path).test(PairInference(SMALLEST), loader, verbose=False)[0]
    assert math.isfinite(found["test/rmse_chain"])


TABLE = [*SMALL[:3], *SMALL[8:], "--data.batch_size=4", "--data.windows.length=8", "--data.windows.stride=8"]
ROOMS = str(Path(__file__).parents[2] / "examples" / "rooms.csv")


@pytest.mark.parametrize("columns", ["[inside]", "[outside,inside]"])
def test_columns_without_a_given_one_are_inferred_from_their_own_past(
    columns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores, predictions as CSV and pictures, of one column alone and of all at once."""
    monkeypatch.chdir(tmp_path)
    command = ["--config", str(Path(CONFIG).with_name("pairs_table.yaml")), f"--data.path={ROOMS}", *TABLE]
    command += [f"--data.columns={columns}", f"--data.infer={columns}", "--data.context=3"]
    command += ["--data.evaluation.shares=[0.9,0.05,0.05]", "--model.inference.samples=2"]
    assert main(["fit", *command, "--trainer.callbacks+=Trajectories"]) == 0
    assert list(tmp_path.rglob("trajectories.png"))
    checkpoint = f"--ckpt_path={next(tmp_path.rglob('last.ckpt'))}"
    assert main(["test", *command, checkpoint]) == 0
    assert main(["predict", *command, checkpoint]) == 0
    with next(tmp_path.rglob("predictions/batch00000.csv")).open() as file:
        rows = list(csv.DictReader(file))
    names = columns.strip("[]").split(",")
    assert {row["member"] for row in rows} == set(names)
    # Of the 8 rows of each window, the 3 shown are left out.
    assert set(Counter((row["task"], row["member"]) for row in rows).values()) == {5}


def test_extrapolation_is_scored_beside_the_rest(tmp_path: Path) -> None:
    pairs = data(kind="const", evaluation__beyond=3)
    with pytest.warns(UserWarning, match=r"x leaves the range of training \[5, 15\]"):
        (scores,) = trainer(tmp_path).test(Learner(SMALLEST), pairs, verbose=False)
    for name in ("inside/ll", "beyond/ll", "beyond/mse", "beyond/ll_oracle"):
        assert math.isfinite(scores[f"test/{name}"])
    assert scores["test/inside/ll"] != scores["test/beyond/ll"]
