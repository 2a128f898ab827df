"""The regression task: invariances, scores, predictions in the data's units, and weights from a classifier."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from datamodules import SyntheticRegression
from tabattn.contract.batches import RegressionBatch
from tabattn.convert import main as convert
from tabattn.prior.nanotabpfn import NanoTabPFN
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import DEFAULT_OPTIONS, PriorOptions
from tabattn.prior.regression import standardised
from tabattn.prior.regression_scores import QUANTILES, TableRegressionScores
from tabattn.prior.weights import load_network
from tabattn.storage.matching import load_matching
from tabattn.tasks import PriorClassification, PriorRegression
from tabattn.training.cli import CLI, main

ROWS = PriorOptions(order="rows", summaries=2, row_layers=2, row_dim=8, row_heads=2, row_hidden=8)
"""Options of a network with layers over row tokens."""

SIZES: dict[str, Any] = {"dim": 8, "heads": 2, "hidden": 8, "layers": 2, "thinking_rows": 2}
DATA: dict[str, Any] = {"batch_size": 2, "steps_per_epoch": 2, "rows": (12, 16), "features": (2, 3)}


def task(**changes: Any) -> PriorRegression:
    torch.manual_seed(0)
    return PriorRegression(partial(PriorNetwork, **{**SIZES, "classes": 12, **changes})).eval()


def example(seed: int = 0) -> RegressionBatch:
    random = torch.Generator().manual_seed(seed)
    return RegressionBatch(torch.randn(2, 14, 3, generator=random), torch.randn(2, 14, generator=random), 9)


def perturb(network: torch.nn.Module) -> None:
    """Change all weights at random, so that no layer adds nothing."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=random)


def test_row_tokens_read_the_numbers_of_their_context() -> None:
    batch, model = example(), task(options=ROWS)
    perturb(model.network.rows)  # type: ignore[arg-type]
    changed = batch.y.clone()
    changed[:, 0] += 1
    with torch.no_grad():
        assert not torch.allclose(model(batch), model(batch._replace(y=changed)), atol=1e-3)
        model.network.labels.linear.weight.zero_()
        assert not torch.allclose(model(batch), model(batch._replace(y=changed)), atol=1e-3)


def trainer(folder: Path, **given: Any) -> Trainer:
    return Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **given,
    )


@pytest.mark.parametrize("options", [DEFAULT_OPTIONS, ROWS], ids=["cells", "rows"])
def test_predictions_follow_the_unit_of_the_numbers(options: PriorOptions) -> None:
    batch, model = example(), task(options=options)
    with torch.no_grad():
        plain = model.predict_step(batch, 0)
        scaled = model.predict_step(batch._replace(y=1e4 * batch.y - 3e5), 0)
    assert plain.shape == (2, 5, 4)
    assert torch.allclose(1e4 * plain - 3e5, scaled, rtol=1e-3, atol=50)


@pytest.mark.parametrize("options", [DEFAULT_OPTIONS, ROWS], ids=["cells", "rows"])
def test_numbers_of_target_rows_are_not_read(options: PriorOptions) -> None:
    batch, model = example(), task(options=options)
    with torch.no_grad():
        assert torch.equal(model(batch), model(batch.unscored()))


@pytest.mark.parametrize("options", [DEFAULT_OPTIONS, ROWS], ids=["cells", "rows"])
def test_a_prefilled_context_gives_the_same_logits(options: PriorOptions) -> None:
    batch, model = example(), task(options=options)
    perturb(model.network)
    y = standardised(batch).y
    with torch.no_grad():
        cache = model.network.prefill(batch.x[:, :9], y[:, :9])
        assert torch.allclose(model.network.decode(batch.x[:, 9:], cache), model(batch), atol=1e-5)


def test_row_tokens_of_numbers_in_double_precision() -> None:
    batch, model = example(), task(options=ROWS).double()
    x, y = batch.x.double(), standardised(batch).y.double()
    perturb(model.network)
    with torch.no_grad():
        cache = model.network.prefill(x[:, :9], y[:, :9])
        found = model.network.decode(x[:, 9:], cache)
        torch.testing.assert_close(found, model.network(x, y, 9), rtol=1e-9, atol=1e-9)


def test_the_order_of_context_rows_does_not_matter() -> None:
    batch, model = example(), task()
    order = torch.cat([torch.randperm(9, generator=torch.Generator().manual_seed(1)), torch.arange(9, 14)])
    with torch.no_grad():
        moved = model(batch._replace(x=batch.x[:, order], y=batch.y[:, order]))
        assert torch.allclose(moved, model(batch), atol=1e-5)


def test_constant_numbers_of_a_context_are_predicted_around_that_constant() -> None:
    batch = example()
    constant = batch._replace(y=torch.full_like(batch.y, 7e5))
    assert standardised(constant).scale.unique().tolist() == [1]
    with torch.no_grad():
        assert torch.isfinite(task().predict_step(constant, 0)).all()


def test_the_loss_is_the_mean_over_known_targets() -> None:
    batch, model = example(), task()
    model.log = lambda *args, **given: None  # type: ignore[method-assign, assignment]
    batch.y[0, 10] = float("nan")
    with torch.no_grad():
        density = model.bars.log_density(model(batch), standardised(batch).y[:, 9:].nan_to_num())
        known = torch.isfinite(batch.y[:, 9:])
        assert float(model.training_step(batch, 0)) == pytest.approx(-float(density[known].mean()), rel=1e-5)


def test_scores_are_those_of_their_definitions() -> None:
    metric = TableRegressionScores()
    mean, targets = torch.tensor([[1.0, 2.0], [0.0, 9.0]]), torch.tensor([[2.0, 4.0], [1.0, float("nan")]])
    quantiles = mean[..., None] + torch.linspace(-1.5, 1.5, len(QUANTILES))
    metric.update(mean, torch.tensor([[-1.0, -3.0], [0.5, 0.0]]), quantiles, targets, torch.tensor([3, 1]))
    scores = metric.compute()
    assert sorted(scores) == [1, 3]
    assert scores[3].rmse == pytest.approx(np.sqrt(2.5))
    assert scores[3].r2 == pytest.approx(1 - 2.5 / 1)
    assert scores[3].log_likelihood == pytest.approx(-2)
    assert scores[3].coverage == 0.5
    off = targets[0, :, None] - quantiles[0]
    levels = torch.tensor(QUANTILES)
    assert scores[3].crps == pytest.approx(float(2 * torch.maximum(levels * off, (levels - 1) * off).mean()), rel=1e-5)


def test_a_fit_logs_every_table_and_predicts_lines_of_it(tmp_path: Path) -> None:
    data, model = SyntheticRegression(**DATA), task().train().use_optimizer(partial(torch.optim.SGD, lr=0.1))
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit(model, data)
    fields = ("rmse", "r2", "log_likelihood", "crps", "coverage")
    assert {"train/loss", *(f"val/{at}{field}" for at in ("", "diabetes/") for field in fields)} <= set(
        run.callback_metrics
    )
    outputs = run.predict(model, data)
    assert outputs is not None
    batch = data.test[0]
    lines = model.prediction_table(batch, outputs[0], 0)
    assert lines["table"] == ["diabetes"] * len(lines["row"])
    assert lines["row"] == data.target_rows(0).tolist()
    assert np.allclose(lines["number"], data.real[0].y[data.target_rows(0)])
    assert all(
        low <= middle <= high for low, middle, high in zip(lines["5 %"], lines["median"], lines["95 %"], strict=True)
    )


def test_a_classifier_initialises_all_but_the_ends(tmp_path: Path) -> None:
    classifier = PriorClassification(partial(PriorNetwork, **SIZES, classes=3))
    run = trainer(tmp_path, enable_checkpointing=False)
    run.strategy.connect(classifier)
    run.save_checkpoint(tmp_path / "classifier.ckpt")
    model = task()
    given = classifier.network.state_dict()
    load_matching(model.network, str(tmp_path / "classifier.ckpt"), PriorRegression)
    own = model.network.state_dict()
    differ = {name for name in own if name not in given or own[name].shape != given[name].shape}
    assert differ == {
        "labels.unknown",
        "labels.linear.weight",
        "labels.linear.bias",
        "decoder.2.weight",
        "decoder.2.bias",
    }
    assert all(torch.equal(own[name], given[name]) for name in own if name not in differ)


def test_a_checkpoint_loads_as_a_network(tmp_path: Path) -> None:
    model = task()
    run = trainer(tmp_path, enable_checkpointing=False)
    run.strategy.connect(model)
    run.save_checkpoint(tmp_path / "run.ckpt")
    network = load_network(tmp_path / "run.ckpt")
    assert isinstance(network, PriorNetwork)
    assert (network.classes, network.options.targets) == (12, "numbers")
    batch = example()
    with torch.no_grad():
        assert torch.equal(network(batch.x, standardised(batch).y, 9), model(batch))


EARLIER = {**SIZES, "bins": 12, "feature_group": 3, "options": {"embedding": "rbf", "targets": "classes"}}
"""Arguments of the network among those of the task, in a checkpoint of an earlier version."""


def test_a_checkpoint_of_an_earlier_version_loads(tmp_path: Path) -> None:
    model = task(options=PriorOptions(embedding="rbf"))
    run = trainer(tmp_path, enable_checkpointing=False)
    run.strategy.connect(model)
    run.save_checkpoint(tmp_path / "today.ckpt")
    checkpoint = torch.load(tmp_path / "today.ckpt", weights_only=True)
    described = checkpoint["hyper_parameters"].pop("network")
    assert described["init_args"]["options"]["targets"] == "numbers"
    checkpoint["hyper_parameters"] |= EARLIER
    torch.save(checkpoint, tmp_path / "earlier.ckpt")
    again = PriorRegression.load_from_checkpoint(tmp_path / "earlier.ckpt", weights_only=True).eval()
    batch = example()
    with torch.no_grad():
        assert torch.equal(again(batch), model(batch))
        for name in ("today.ckpt", "earlier.ckpt"):
            assert torch.equal(load_network(tmp_path / name)(batch.x, standardised(batch).y, 9), model(batch))
    initialised = task(options=PriorOptions(embedding="rbf"), classes=13)
    load_matching(initialised.network, str(tmp_path / "earlier.ckpt"), PriorRegression)
    assert torch.equal(initialised.network.labels.linear.weight, model.network.labels.linear.weight)
    del checkpoint["hyper_parameters"]["bins"]
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    with pytest.raises(ValueError, match="does not hold the network it describes"):
        load_network(tmp_path / "broken.ckpt")


@pytest.mark.parametrize(("earlier", "today"), [("bins", "classes"), ("dim", "dim")])
def test_earlier_flags_are_refused_with_those_of_today(
    earlier: str, today: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--model=PriorRegression", "--data=SyntheticRegression", f"--model.{earlier}=8"])
    assert f"it is model.network.{today}" in capsys.readouterr().err.replace("--", "")


def test_an_earlier_configuration_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"dim": 8, "heads": 2, "bins": 12, "options": {"embedding": "rbf"}}
    content = {"model": {"class_path": "PriorRegression", "init_args": given}, "data": "SyntheticRegression"}
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit):
        main(["fit", f"--config={tmp_path / 'old.yaml'}"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert "it is --model.network." in line
    assert line.endswith("python -m tabattn.convert OLD.yaml NEW.yaml rewrites a configuration")
    assert convert([str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")]) == 0
    made: Any = CLI([f"--config={tmp_path / 'new.yaml'}", "--trainer.accelerator=cpu"], run=False).model
    assert (made.network.classes, made.network.options.embedding) == (12, "rbf")
    assert made.network.arguments["dim"] == 8


def test_the_network_predicts_numbers_whatever_its_options_say() -> None:
    assert task(options=PriorOptions(targets="classes")).network.options.targets == "numbers"
    model = PriorRegression()
    assert (model.network.classes, model.network.options) == (100, PriorOptions(targets="numbers"))
    assert PriorRegression("PriorNetwork").network.targets == "numbers"
    with pytest.raises(ValueError, match="the network of PriorRegression must predict numbers, this one classes"):
        PriorRegression(NanoTabPFN)


@pytest.mark.parametrize("flags", [[], ["--model.attention=Local", "--model.attention.window=3"]], ids=len)
@pytest.mark.parametrize("name", ["prior", "regression"])
def test_a_configuration_makes_the_network_of_the_packaged_weights(name: str, flags: list[str]) -> None:
    made: Any = CLI([f"--config=configs/{name}_pretrain.yaml", "--trainer.accelerator=cpu", *flags], run=False).model
    assert isinstance(made.network, PriorNetwork)
    packaged = load_network(name=name)
    assert {k: v.shape for k, v in made.network.state_dict().items()} == {
        k: v.shape for k, v in packaged.state_dict().items()
    }
    mechanism = made.network.arguments["attention"]
    assert mechanism["class_path"] == f"tabattn.attention.{'Local' if flags else 'Softmax'}"


def test_options_of_numbers() -> None:
    with pytest.raises(ValueError, match="targets must be classes or numbers, got 'words'"):
        PriorOptions(targets="words")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bins must be at least 3, got 2"):
        task(classes=2)
