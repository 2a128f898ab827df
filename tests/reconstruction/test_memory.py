"""Memory of Gaussian processes: large tables condition every prediction on all their training rows."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pandas
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from datamodules import TableCells
from datamodules.reconstruction import ContextOptions
from datamodules.reconstruction.options import LookupOptions
from tabattn.contract.cells import CellBatch, Column
from tabattn.reconstruction import ProcessTransformer
from tabattn.reconstruction.block_cholesky import covariance_factor
from tabattn.reconstruction.class_process import ClassProcess
from tabattn.reconstruction.estimator import NPTRegressor
from tabattn.reconstruction.leave_out import prediction
from tabattn.reconstruction.memory import KEPT, Memory
from tabattn.reconstruction.process import GaussianProcess, Inferred
from tabattn.reconstruction.stacked import StackedProcesses
from tabattn.tasks import TableReconstruction
from tests.reconstruction.estimator.tiny import TINY, regressor

COLUMNS = (
    Column("size"),
    Column("shape", ("flat", "round")),
    Column("kind", ("a", "b"), target=True),
    Column("price", target=True),
)
PRICE = 3
close = torch.testing.assert_close


def table(rows: int = 60) -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    truth = torch.randn(rows, 4, generator=source)
    truth[:, 1] = (truth[:, 1] > 0).float()
    truth[:, 2] = (truth[:, 0] + 0.3 * truth[:, 2] > 0).float()
    truth[:, PRICE] = (2 * truth[:, 0]).sin() + truth[:, 1] + 0.1 * truth[:, PRICE]
    return truth


def both(**options: Any) -> tuple[GaussianProcess, GaussianProcess]:
    """A process that keeps all of 40 rows, and one with its hyperparameters that conditions on all rows of a batch."""
    kept = GaussianProcess(COLUMNS, PRICE, 20, **options)
    kept.fit(table()[:40], torch.arange(40))
    whole = GaussianProcess(COLUMNS, PRICE, 1000)
    for name in ("scale", "noise", "lengths", "slopes"):
        getattr(whole, name).copy_(getattr(kept, name))
    return kept, whole


def cells(rows: list[int], told: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cells, mask and numbers of rows, of which some labels are seen."""
    truth, hidden = table()[rows], torch.zeros(len(rows), 4, dtype=torch.bool)
    hidden[[place for place, row in enumerate(rows) if row not in told], PRICE] = True
    return torch.where(hidden, 0.0, truth)[None], hidden[None], torch.tensor([rows])


def ask(process: GaussianProcess, rows: list[int], told: list[int]) -> Inferred:
    """Predictions of rows, the first of which are the context, whose labels are seen."""
    x, hidden, row = cells(rows, told)
    return process(x, hidden, max(1, len(told)), row)


def test_predictions_of_the_same_rows_are_kept_outside_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = both()
    every, asked = list(range(60)), []
    predicted = Memory._predicted

    def counted(memory: Memory, inputs: torch.Tensor, *rest: Any) -> Any:
        asked.append(len(inputs))
        return predicted(memory, inputs, *rest)

    monkeypatch.setattr(Memory, "_predicted", counted)
    kept.train()
    expected = [ask(kept, every, every[:40]) for _ in range(2)][1]
    assert asked == [20, 20]
    kept.eval()
    for _ in range(3):
        for got, want in zip(ask(kept, every, every[:40]), expected, strict=True):
            assert torch.equal(got, want)
    assert asked == [20, 20, 20]
    behind_another = ask(kept, [*range(30), *range(40, 60)], every[:30])
    assert torch.equal(behind_another.mean[0, 30:], expected.mean[0, 40:])
    assert asked == [20, 20, 20]
    turned = ask(kept, [*range(40), *reversed(range(40, 60))], every[:40])
    close(turned.mean[0, 40:].flip(0), expected.mean[0, 40:])
    assert asked.pop() == 20
    for count in range(1, KEPT + 1):
        ask(kept, [*range(40), *range(40, 40 + count)], every[:40])
    assert len(kept.memory._kept) == KEPT
    assert asked[3:] == list(range(1, KEPT + 1))  # the first of all is kept no longer
    ask(kept, every, every[:40])
    assert asked[-1] == 20
    kept.fit(table()[:40] * torch.tensor([1.0, 1.0, 1.0, 2.0]), torch.arange(40))
    assert not torch.equal(ask(kept, every, every[:40]).mean, expected.mean)
    assert asked[-2:] == [20, 20]


def test_other_rows_are_predicted_from_all_rows_that_are_kept() -> None:
    kept, whole = both()
    every = list(range(60))
    expected = ask(whole, every, every[:40])
    found = ask(kept, every, every[:40])
    for got, want in zip(found, expected, strict=True):
        close(got, want, atol=2e-4, rtol=2e-4)
    few = [0, 1, *range(40, 60)]
    for got, want in zip(ask(kept, few, [0, 1]), expected, strict=True):
        close(got[0], want[0, few], atol=2e-4, rtol=2e-4)


def test_a_row_that_is_kept_is_predicted_without_its_label_where_that_is_hidden_too() -> None:
    kept, whole = both()
    expected = ask(whole, list(range(40)), list(range(40)))
    rows = [3, 17, 30, 8]
    found = ask(kept, rows, [3, 17])
    close(found.mean[0], expected.mean[0, rows])
    close(found.std[0], expected.std[0, rows])
    close(found.residual[0, :2], expected.residual[0, rows[:2]])
    assert not found.residual[0, 2:].any()


def test_the_order_of_the_rows_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, other = both()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(other, "most_rows", 20)
    monkeypatch.setattr(other, "_maximise", lambda truth: None)
    other.fit(table()[:40][order], order)
    for got, want in zip(ask(other, [5, 7, 50], []), ask(kept, [5, 7, 50], []), strict=True):
        close(got, want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("hide", ["features", "numbers"])
def test_a_batch_conditions_on_its_own_rows_if_the_memory_does_not_fit_it(hide: str) -> None:
    kept, whole = both()
    every = list(range(20))
    x, hidden, row = cells(every, every[:15])
    if hide == "features":
        hidden[0, 4, 0], x[0, 4, 0] = True, 0.0
    found = kept(x, hidden, 15, row if hide == "features" else None)
    close(found.mean, whole(x, hidden, 15).mean)


def test_rows_are_known_where_their_features_differ_in_the_last_digits() -> None:
    """As where another device filled the memory, whose functions are others."""
    kept, _ = both()
    expected = ask(kept, [3, 50], [3])
    packed = kept.memory.packed().clone()
    packed[:, 1 : 1 + kept.memory.inputs.shape[1]] *= 1 + 1e-7
    kept.memory.load(packed)
    for got, want in zip(ask(kept, [3, 50], [3]), expected, strict=True):
        close(got, want, atol=1e-4, rtol=1e-4)


def test_only_large_tables_are_kept_and_evenly() -> None:
    small = GaussianProcess(COLUMNS, PRICE, 40)
    small.fit(table()[:40], torch.arange(40))
    assert len(small.memory) == 0
    none = GaussianProcess(COLUMNS, PRICE, 20, memory_rows=0)
    none.fit(table(), torch.arange(60))
    assert len(none.memory) == 0
    some = GaussianProcess(COLUMNS, PRICE, 20, memory_rows=30)
    truth = table()
    truth[0, PRICE] = torch.nan
    some.fit(truth, torch.arange(100, 160))
    assert some.memory.number[[0, -1]].tolist() == [101, 159]
    assert len(some.memory) == 30
    assert some.memory.number.diff().max() <= 3
    some.fit(table()[:10], torch.arange(10))
    assert len(some.memory) == 0
    with pytest.raises(ValueError, match="memory_rows must be at least 0, got -1"):
        GaussianProcess(COLUMNS, PRICE, 20, -1)


def test_states_hold_the_memory_and_earlier_ones_load() -> None:
    kept, _ = both()
    state = kept.state_dict()
    fresh = GaussianProcess(COLUMNS, PRICE, 20)
    fresh.load_state_dict(state)
    for got, want in zip(ask(fresh, [3, 50], [3]), ask(kept, [3, 50], [3]), strict=True):
        close(got, want)
    del state["_extra_state"]
    fresh.load_state_dict(state)
    assert len(fresh.memory) == 0
    with pytest.raises(ValueError, match=r"a memory must have 7 columns, got the shape \(3, 2\)"):
        fresh.load_state_dict({**state, "_extra_state": torch.zeros(3, 2)})


def test_stacking_and_calibration_use_the_rows_that_are_kept() -> None:
    truth, row = table(), torch.arange(60)
    stacked = StackedProcesses(COLUMNS, PRICE, 20)
    stacked.fit(truth, row)
    plain, scored = (process.memory.mean[:, 0] for process in (stacked.plain, stacked.scored))
    apart = (scored - plain).float()
    weight = ((truth[:, PRICE] - plain.float()) @ apart / (apart @ apart)).clamp(0, 1)
    close(stacked.weight, weight, atol=1e-4, rtol=1e-4)
    classes = ClassProcess(COLUMNS, 2, 20)
    classes.fit(truth, row)
    assert len(classes.memory) == 60
    hidden = torch.zeros(1, 60, 4, dtype=torch.bool)
    found = classes.classify(truth[None], hidden, 60, row[None])
    assert (found.logits[0].argmax(-1) == truth[:, 2]).float().mean() > 0.7
    few = ClassProcess(COLUMNS, 2, 20)
    few.fit(truth)
    losses = [
        torch.nn.functional.cross_entropy(classes.memory.mean * each.steepness.exp() + each.biases, truth[:, 2].long())
        for each in (classes, few)
    ]
    assert losses[0] < losses[1] - 1e-5


def frame(rows: int = 90) -> pandas.DataFrame:
    source = np.random.default_rng(0)
    x = source.normal(size=(rows, 2))
    return pandas.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": np.sin(2 * x[:, 0]) + x[:, 1]})


def fitted(tmp_path: Path, **changes: Any) -> tuple[TableReconstruction, TableCells, lightning.Trainer]:
    data = TableCells(frame(), "y", steps_per_epoch=2, context=ContextOptions(rows=30, **changes))
    network = partial(ProcessTransformer, dim=8, heads=2, hidden=8, layers=1, most_rows=30)
    task = TableReconstruction(network)
    trainer = lightning.Trainer(
        default_root_dir=tmp_path, max_steps=4, logger=False, callbacks=[EMAWeightAveraging(decay=0.5)],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, data)
    return task, data, trainer


def test_a_training_keeps_all_training_rows_and_its_checkpoint_has_them(tmp_path: Path) -> None:
    task, data, trainer = fitted(tmp_path)
    memory = task.network.processes[0].plain.memory
    rows = (data.roles == 0).nonzero()[:, 0]
    assert len(rows) > 30
    assert torch.equal(memory.number, rows)
    trainer.save_checkpoint(tmp_path / "kept.ckpt")
    loaded = TableReconstruction.load_from_checkpoint(tmp_path / "kept.ckpt")
    assert torch.equal(loaded.network.processes[0].plain.memory.packed(), memory.packed())
    scores = [trainer.test(each, data, verbose=False)[0]["test/rmse"] for each in (task, loaded)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_ranks_take_what_the_first_one_has_prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    task, _, _ = fitted(tmp_path)
    state = {name: value.clone() for name, value in task.network.state_dict().items()}
    first = {name: value + 1 if name.endswith(("lengths", "_extra_state")) else value for name, value in state.items()}
    sent: list[set[str]] = []

    def broadcast(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        sent.append(set(found))
        return {name: first[name] for name in found if name in first}

    rank: Any = SimpleNamespace(strategy=SimpleNamespace(broadcast=broadcast), is_global_zero=False)
    monkeypatch.setattr(TableReconstruction, "trainer", rank)
    task._take_prepared()
    assert sent[0] == {name for name in state if name not in dict(task.network.named_parameters())}
    for name, value in task.network.state_dict().items():
        assert torch.equal(value, first[name]), name


def test_lookups_keep_no_rows(tmp_path: Path) -> None:
    task, data, _ = fitted(tmp_path, lookup=LookupOptions(copies=True))
    assert data.learned is None
    assert len(task.network.processes[0].plain.memory) == 0


def test_estimators_keep_rows_in_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = partial(ProcessTransformer, dim=8, heads=2, hidden=8, layers=1, most_rows=20)
    settings = replace(TINY, network=network)
    data = frame()
    x, y = data[["a", "b"]].to_numpy(), data["y"].to_numpy()
    model = regressor(settings=settings, validation_fraction=0.2).fit(x[:70], y[:70])
    memory = model.members_.networks[0].processes[0].plain.memory
    assert len(memory) == 56
    assert np.square(model.predict(x[70:]) - y[70:]).mean() < 0.2
    asked: list[int] = []
    predict = Memory.predict
    monkeypatch.setattr(Memory, "predict", lambda own, x, *given: (asked.append(len(x)), predict(own, x, *given))[1])
    model.predict(x[:3])
    # Beside the rows that are asked for, those that validated: they are context, and not kept.
    assert asked == [3 + 14, 3 + 14]
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_allclose(NPTRegressor.load(tmp_path / "model.safetensors").predict(x[70:]), model.predict(x[70:]))


def test_a_left_out_row_is_still_in_the_memory() -> None:
    network = ProcessTransformer(COLUMNS, dim=8, heads=2, hidden=8, layers=1, most_rows=20)
    network.begin(table()[:40], row=torch.arange(40))
    x, hidden, row = cells([1, 2, 3, 50], [1, 2, 3])
    batch = CellBatch(x, hidden, x, hidden, 3, row)
    found = network.eval().reconstruct(batch)
    fewer = batch._replace(x=x[:, 1:], hidden=hidden[:, 1:], row=row[:, 1:], context=2)
    close(network.reconstruct(fewer).mean[0, -1], found.mean[0, -1], atol=0.1, rtol=0.0)
    assert prediction(network, found, PRICE, 3).shape == (1,)


def test_copies_share_the_memory() -> None:
    kept, _ = both()
    assert copy.deepcopy(kept).memory is kept.memory


def test_what_has_not_changed_is_not_factored_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = both()
    first = ask(kept, [50, 51], [])
    state = copy.deepcopy(kept.state_dict())
    other = GaussianProcess(COLUMNS, PRICE, 20)
    other.fit(table(80)[40:], torch.arange(40))
    sizes: list[int] = []
    monkeypatch.setattr(
        "tabattn.reconstruction.memory.covariance_factor",
        lambda inputs, *given: (sizes.append(len(inputs)), covariance_factor(inputs, *given))[1],
    )
    kept.load_state_dict(state)
    for found, expected in zip(ask(kept, [50, 51], []), first, strict=True):
        assert torch.equal(found, expected)
    assert not sizes
    kept.load_state_dict(other.state_dict())
    for found, expected in zip(ask(kept, [50, 51], []), ask(other, [50, 51], []), strict=True):
        close(found, expected)
    kept.load_state_dict(state)
    for found, expected in zip(ask(kept, [50, 51], []), first, strict=True):
        close(found, expected)
    assert sizes == [40, 40]


def test_a_fit_validates_averages_without_factoring_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(
        "tabattn.reconstruction.memory.covariance_factor",
        lambda inputs, *given: (sizes.append(len(inputs)), covariance_factor(inputs, *given))[1],
    )
    network = partial(ProcessTransformer, dim=8, heads=2, hidden=8, layers=1, most_rows=20)
    settings = replace(TINY, network=network)
    model = regressor(settings=settings, max_steps=6, patience=9, validation_fraction=0.2)
    data = frame(70)
    model.fit(data[["a", "b"]].to_numpy(), data["y"].to_numpy())
    assert len(model.validation_losses_[0]) == 3
    assert sizes == [56, 56]
