"""The prior task: logged scores, checkpoints, resume, and swapped mechanisms."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from datamodules import SyntheticPrior
from datamodules.prior import ColumnOptions, ScmOptions
from tabattn.attention import Entmax, Inducing, Local, Softmax
from tabattn.contract.batches import TableBatch
from tabattn.contract.errors import DataError
from tabattn.prior import weights
from tabattn.prior.metrics import TableScores, score
from tabattn.prior.network import PriorNetwork
from tabattn.prior.options import PriorOptions
from tabattn.prior.task import permute_context, restricted_log_softmax
from tabattn.tasks import PriorClassification
from tests.goldens.cases import Reader

MODEL: dict[str, Any] = {"dim": 8, "heads": 2, "hidden": 8, "layers": 2, "classes": 3, "thinking_rows": 2}
NETWORK = partial(PriorNetwork, **MODEL)
DATA = {"batch_size": 2, "steps_per_epoch": 2, "rows": (12, 16), "features": (2, 3), "tables": ("sklearn:iris",)}


class Fitted(PriorClassification):
    """The task with an optimizer of its own, as outside the command line."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder: Path, epochs: int) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )


def test_logs_every_table_and_the_context_reliance(tmp_path: Path) -> None:
    run = trainer(tmp_path, 1)
    run.fit(Fitted(NETWORK), SyntheticPrior(**DATA))
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert {
        "train/loss",
        "val/iris/auroc",
        "val/iris/accuracy",
        "val/iris/log_loss",
        "val/iris/balanced_accuracy",
        "val/permuted_auroc",
    } <= set(logged)
    assert logged["val/auroc"] == logged["val/iris/auroc"]
    assert logged["val/reliance"] == pytest.approx(logged["val/auroc"] - logged["val/permuted_auroc"], abs=1e-6)


@pytest.mark.parametrize("blind", [True, False])
def test_only_a_network_that_reads_labels_relies_on_its_context(tmp_path: Path, blind: bool) -> None:
    task = PriorClassification(NETWORK, permutations=2)
    task.network = Reader(blind)  # type: ignore[assignment]
    (found,) = trainer(tmp_path, 1).validate(task, SyntheticPrior(**DATA), verbose=False)
    if blind:
        assert found["val/reliance"] == pytest.approx(0, abs=1e-6)
    else:
        assert found["val/auroc"] > 0.9
        assert 0.2 < found["val/permuted_auroc"] < 0.8
        assert found["val/reliance"] > 0.2


def test_each_permuted_pass_of_each_batch_and_rank_has_an_order_of_its_own() -> None:
    """And the same one in every validation."""
    batch, seen = TableBatch(torch.randn(1, 40, 2), torch.arange(40)[None] % 3, 36), []
    task: Any = PriorClassification(NETWORK, permutations=3)
    task.probabilities = lambda given: seen.append(tuple(given.y[0].tolist())) or torch.full((1, 4, 3), 1 / 3)
    for rank in (0, 1, 0, 1):
        task.trainer = SimpleNamespace(world_size=2, global_rank=rank)
        for number in range(2):
            task.validation_step(batch, number)
    assert len(seen) == 2 * 2 * 2 * (1 + 3)
    assert set(seen[::4]) == {tuple(batch.y[0].tolist())}
    assert len(set(seen)) == 1 + 2 * 2 * 3
    assert seen[:16] == seen[16:]


def test_validation_scores_are_those_of_the_pooled_predictions(tmp_path: Path) -> None:
    task, data = Fitted(NETWORK), SyntheticPrior(**DATA)
    run = trainer(tmp_path, 1)
    (result,) = run.test(task, data, verbose=False)
    predicted = torch.cat([batch[0] for batch in run.predict(task, data)])
    labels = torch.cat([batch.y[0, batch.context :] for batch in data.folds.test])
    assert result["test/iris/auroc"] == pytest.approx(score(predicted, labels).auroc, abs=1e-6)
    assert result["test/iris/log_loss"] == pytest.approx(score(predicted, labels).log_loss, abs=1e-6)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = Fitted(NETWORK)
    begun = Fitted(NETWORK)
    begun.load_state_dict(whole.state_dict())
    trainer(tmp_path, 2).fit(whole, SyntheticPrior(**DATA))
    first = trainer(tmp_path, 1)
    first.fit(begun, SyntheticPrior(**DATA))
    first.save_checkpoint(tmp_path / "half.ckpt")
    resumed = Fitted(NETWORK)
    trainer(tmp_path, 2).fit(resumed, SyntheticPrior(**DATA), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, rtol=0, atol=0, msg=name)


ROWS = PriorOptions(order="rows", summaries=1, row_layers=1, row_dim=8, row_heads=2, row_hidden=8)


@pytest.mark.parametrize(
    ("changes", "options"),
    [({"attention": Local}, {}), ({"attention": Inducing}, {}), ({}, {"cell_attention": Inducing, "options": ROWS})],
    ids=str,
)
def test_a_checkpoint_loads_safely_and_whole(tmp_path: Path, changes: dict[str, Any], options: dict[str, Any]) -> None:
    run = trainer(tmp_path, 1)
    task = Fitted(partial(NETWORK, **options), **changes)
    run.fit(task, SyntheticPrior(**DATA))
    run.save_checkpoint(tmp_path / "task.ckpt")
    saved = torch.load(tmp_path / "task.ckpt", weights_only=True)
    saved["hyper_parameters"]["_class_path"] = "tabattn.tasks.PriorClassification"
    torch.save(saved, tmp_path / "task.ckpt")
    loaded = PriorClassification.load_from_checkpoint(tmp_path / "task.ckpt", weights_only=True)
    mechanism = options.get("cell_attention", changes.get("attention"))
    assert isinstance(loaded.network.blocks[0].rows.attention.mechanism, mechanism)
    assert loaded.network.options == options.get("options", PriorOptions())
    for name, weight in task.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight, rtol=0, atol=0)


def test_init_from_swaps_the_mechanism_and_keeps_the_weights(tmp_path: Path) -> None:
    run = trainer(tmp_path, 1)
    trained = Fitted(NETWORK, attention=Softmax)
    run.fit(trained, SyntheticPrior(**DATA))
    run.save_checkpoint(tmp_path / "softmax.ckpt")
    swapped = Fitted(NETWORK, attention=Entmax, init_from=str(tmp_path / "softmax.ckpt"))
    (result,) = trainer(tmp_path, 1).test(swapped, SyntheticPrior(**DATA), verbose=False)
    assert isinstance(swapped.network.blocks[0].rows.attention.mechanism, Entmax)
    torch.testing.assert_close(
        swapped.network.blocks[0].features.qkv.weight, trained.network.blocks[0].features.qkv.weight, rtol=0, atol=0
    )
    assert 0 <= result["test/iris/auroc"] <= 1


def test_init_from_takes_a_file_of_weights(tmp_path: Path) -> None:
    """Of half precision too: such a file is what the package ships."""
    path = tmp_path / "half.safetensors"
    network = Fitted(NETWORK).network
    tensors, arguments = weights.described(network)
    weights.write(path, {name: value.half() for name, value in tensors.items()}, {"network": arguments})
    task = Fitted(NETWORK, init_from=str(path))
    trainer(tmp_path, 1).test(task, SyntheticPrior(**DATA), verbose=False)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(task.network.state_dict()[name], value.half().float(), rtol=0, atol=0)


def test_init_from_refuses_a_file_of_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"init_from: .*bad\.safetensors is damaged"):
        trainer(tmp_path, 1).test(Fitted(NETWORK, init_from=str(path)), SyntheticPrior(**DATA), verbose=False)


def test_init_from_refuses_a_file_without_fitting_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": {"network.other": torch.zeros(2)}}, tmp_path / "other.ckpt")
    task = Fitted(NETWORK, init_from=str(tmp_path / "other.ckpt"))
    with pytest.raises(DataError, match=r"no weight of .* fits this network"):
        trainer(tmp_path, 1).test(task, SyntheticPrior(**DATA), verbose=False)


def test_init_from_refuses_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"nothing of the kind")
    task = Fitted(NETWORK, init_from=str(tmp_path / "bad.ckpt"))
    with pytest.raises(DataError, match=r"bad\.ckpt cannot be read as a checkpoint"):
        trainer(tmp_path, 1).test(task, SyntheticPrior(**DATA), verbose=False)


def test_targets_without_a_label_do_not_count_in_the_loss() -> None:
    task = PriorClassification(NETWORK)
    task.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    x, y = torch.randn(1, 12, 3), torch.arange(12)[None] % 3
    padded = torch.cat([x, torch.randn(1, 4, 3)], 1), torch.cat([y, torch.full((1, 4), -1)], 1)
    losses = [task.training_step(TableBatch(*each, 6), 0) for each in ((x, y), padded)]
    torch.testing.assert_close(losses[1], losses[0])
    all_padding = TableBatch(x, torch.where(torch.arange(12) < 6, y, -1), 6)
    assert task.training_step(all_padding, 0) == 0


def test_too_few_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="the data has up to 3 classes, the network only classes=2"):
        trainer(tmp_path, 1).fit(Fitted(partial(NETWORK, classes=2)), SyntheticPrior(**DATA))


def test_one_table_can_be_learnt(tmp_path: Path) -> None:
    """The loss of one batch falls far below that of guessing."""
    torch.manual_seed(1)
    task = PriorClassification(partial(NETWORK, dim=16, hidden=32))
    batch = next(
        iter(SyntheticPrior(**{**DATA, "scm": ScmOptions(columns=ColumnOptions(missing=0.0))}).train_dataloader())
    )
    optimizer = torch.optim.AdamW(task.parameters(), 0.01)
    targets = batch.y[:, batch.context :].flatten()
    for _ in range(200):
        loss = torch.nn.functional.nll_loss(task(batch).flatten(0, 1), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_absent_classes_get_no_probability() -> None:
    logits = torch.randn(2, 3, 4)
    out = restricted_log_softmax(logits, torch.tensor([[0, 2, 2], [1, 1, 3]])).exp()
    assert (out[0, :, [1, 3]] == 0).all()
    assert (out[1, :, [0, 2]] == 0).all()
    torch.testing.assert_close(out.sum(-1), torch.ones(2, 3))


def test_permuting_the_context_keeps_its_labels_and_the_targets() -> None:
    y = torch.arange(20).view(2, 10)
    out = permute_context(y, 7, seed=3)
    assert torch.equal(out[:, 7:], y[:, 7:])
    assert torch.equal(out[:, :7].sort().values, y[:, :7])
    assert not torch.equal(out[:, :7], y[:, :7])


def test_table_scores_equal_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, roc_auc_score

    metric = TableScores(4)
    probabilities, labels = torch.rand(3, 40, 4).softmax(-1), torch.randint(0, 4, (3, 40))
    padded = labels.clone()
    padded[:, 35:] = -1
    metric.update(probabilities, padded, torch.tensor([5, 5, 9]))
    scores = metric.compute()
    p, y = probabilities[:2, :35].flatten(0, 1).numpy(), labels[:2, :35].flatten().numpy()
    assert scores[5].auroc == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=1e-6)
    assert scores[5].accuracy == pytest.approx(accuracy_score(y, p.argmax(1)))
    assert scores[5].balanced_accuracy == pytest.approx(balanced_accuracy_score(y, p.argmax(1)))
    assert scores[5].log_loss == pytest.approx(log_loss(y, p), abs=1e-5)
    assert list(scores) == [5, 9]


def test_a_single_class_has_no_auc() -> None:
    found = score(torch.tensor([[0.6, 0.4], [0.3, 0.7]]), torch.tensor([0, 0]))
    assert found.auroc != found.auroc
    assert found.accuracy == 0.5


def test_auc_is_averaged_over_the_classes_that_occur() -> None:
    probabilities = torch.tensor([[0.6, 0.1, 0.3], [0.5, 0.2, 0.3], [0.2, 0.1, 0.7], [0.1, 0.3, 0.6]])
    # Of 4 pairs class 0 is ahead in 3, class 2 in 1 and once equal; nothing is of class 1.
    assert score(probabilities, torch.tensor([0, 2, 0, 2])).auroc == pytest.approx((0.75 + 0.375) / 2)


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur() -> None:
    probabilities = torch.tensor([[0.6, 0.1, 0.3], [0.5, 0.2, 0.3], [0.7, 0.1, 0.2], [0.1, 0.3, 0.6]])
    found = score(probabilities, torch.tensor([0, 0, 0, 0]))
    assert found.balanced_accuracy == pytest.approx(0.75)
    assert score(probabilities, torch.tensor([0, 0, 0, 1])).balanced_accuracy == pytest.approx(0.5)


def test_averaging_all_renamings_makes_names_of_classes_irrelevant() -> None:
    torch.manual_seed(2)
    task = PriorClassification(partial(NETWORK, classes=4), renamings=4).eval()
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, y = torch.randn(2, 12, 3), torch.stack([torch.arange(12) % 3, torch.arange(12) % 2])
    shift = torch.tensor([[1], [1]])
    count = torch.tensor([[3], [2]])
    first = task.predict_step(TableBatch(x, y, 8), 0)
    other = task.predict_step(TableBatch(x, (y + shift) % count, 8), 0)
    names = (torch.arange(3) + 1) % 3
    torch.testing.assert_close(first[0, :, :3], other[0][:, names], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first[1, :, :2], other[1, :, :2].flip(-1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.sum(-1), torch.ones(2, 4))
    assert (task(TableBatch(x, y, 8)).exp() - first).abs().amax() > 1e-3


def test_scores_of_a_diverged_network_are_not_numbers() -> None:
    metric = TableScores(3)
    metric.update(torch.full((1, 4, 3), torch.nan), torch.tensor([[0, 1, 2, 0]]), torch.tensor([0]))
    assert all(value != value for value in metric.compute()[0])


def test_a_process_without_predictions_adds_nothing() -> None:
    metric = TableScores(3)
    metric.settle()
    assert metric.compute() == {}


def test_a_network_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="the network of PriorClassification must predict classes, this one numbers"):
        PriorClassification(partial(PriorNetwork, **MODEL, options=PriorOptions(targets="numbers")))


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (PriorOptions(), ["p", "q", "label"]),
        (PriorOptions(order="rows", summaries=2), ["summary 1", "summary 2", "p", "q"]),
    ],
    ids=["target", "summaries"],
)
def test_every_token_of_a_row_has_a_name(
    options: PriorOptions, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = PriorClassification(partial(PriorNetwork, **MODEL, options=options))
    tokens: list[int] = []
    task.network.blocks[0].register_forward_pre_hook(lambda block, given: tokens.append(given[0].shape[2]))
    batch = TableBatch(torch.randn(1, 12, 2), torch.arange(12)[None] % 3, 8, table=torch.tensor([4]))
    monkeypatch.setattr(task, "of_data", lambda name: {4: ("p", "q")}.__getitem__)
    task(batch)
    assert task.token_names(batch) == {"features": names}
    assert tokens == [len(names)]
