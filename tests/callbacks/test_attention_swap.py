"""Comparison of attention graphs in a trained network."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningDataModule, LightningModule
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from callbacks import AttentionSwap
from callbacks.swap_results import Result, drawn, write
from tabattn.attention import Entmax, Softmax
from tabattn.attention.graphs import HeadProjection
from tabattn.attention.swap import Agreement, _OneSequence, agreement, entmax_layers, of_sparsity, probes, replacements
from tabattn.contract.errors import DataError
from tabattn.nn.multihead import MultiheadAttention
from tabattn.storage.projection_files import LayerProjection, write_projections


class Mixed(LightningModule):
    """Two layers of attention; the loss of its test is the distance from the outputs with Entmax."""

    def __init__(self, attention: Any = Entmax) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = MultiheadAttention(8, 2, attention)
        self.second = MultiheadAttention(8, 2, attention)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.8)
        self.seen: list[Tensor] = []

    def test_step(self, x: Tensor, index: int) -> None:
        out = self.second(self.first(x))
        if len(self.seen) <= index:
            self.seen.append(out)
        self.log("test/loss", out.square().mean())
        self.log("test/part/error", out.mean())
        self.log("test/error", (out - self.seen[index]).abs().mean())


def run(tmp_path: Path, task: LightningModule, **own: Any) -> list[dict[str, str]]:
    torch.manual_seed(1)
    data: Any = [torch.randn(4, 24, 8) for _ in range(2)]
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[AttentionSwap(out=str(tmp_path), **own)],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.test(task, DataLoader(data, batch_size=None), verbose=False)
    assert task.trainer is trainer
    assert (tmp_path / "attention_swap.png").stat().st_size > 10_000
    with (tmp_path / "attention_swap.csv").open() as file:
        return list(csv.DictReader(file))


def test_variants_are_tested_on_the_same_data_and_the_network_is_as_before(tmp_path: Path) -> None:
    task = Mixed()
    before = {name: type(each) for name, each in task.named_modules()}
    rows = {row["variant"]: row for row in run(tmp_path, task, baselines=["window", "topk"], sparsity=0.7)}
    assert {name: type(each) for name, each in task.named_modules()} == before
    assert list(rows)[:2] == ["entmax", "sparsefinder exact"]
    assert [name.split()[0] for name in rows] == ["entmax", "sparsefinder", "window", "topk"]
    for name in ("entmax", "sparsefinder exact"):
        assert float(rows[name]["metric"]) == float(rows[name]["test/error"]) < 1e-6
        assert (rows[name]["recall"], rows[name]["exact"]) == ("1.0", "1.0")
    top, window = (next(row for name, row in rows.items() if name.startswith(each)) for each in ("topk", "window"))
    assert abs(float(top["sparsity"]) - 0.7) < 0.1
    assert abs(float(window["sparsity"]) - 0.7) < 0.1
    assert float(top["recall"]) > float(window["recall"])
    assert 1e-4 < float(top["metric"]) < float(window["metric"])
    assert float(window["seconds"]) > 0


def test_learned_projections_are_put_into_each_layer(tmp_path: Path) -> None:
    projection = HeadProjection(2, 4, width=3)
    maps = [
        {name.removeprefix(f"{side}."): value for name, value in projection.state_dict().items() if name[0] == side}
        for side in "qk"
    ]
    learned = LayerProjection(maps[0], maps[1], False, torch.randn(2, 1, 3, 3))
    file = tmp_path / "learned.safetensors"
    write_projections(file, {"first.mechanism": learned})
    rows = run(tmp_path, Mixed(), projections=str(file), groupings=["kmeans", "fixed=4"], baselines=["topk"])
    assert [row["variant"] for row in rows[:4]] == [
        "entmax",
        "sparsefinder exact",
        "sparsefinder kmeans",
        "sparsefinder fixed 4",
    ]
    assert abs(float(rows[4]["sparsity"]) - float(rows[2]["sparsity"])) < 0.06
    assert 0 < float(rows[2]["recall"]) < 1


def test_graphs_of_the_weights_are_those_of_the_attention_maps() -> None:
    from tabattn.attention.capture import capture

    task = Mixed(partial(Entmax, learn_alpha=True))
    with torch.no_grad():
        task.first.mechanism.alpha_logit.copy_(torch.tensor([-1.0, 1.0]))
    mask = (torch.arange(12) < 9)[None, None, None].repeat(1, 1, 12, 1)
    mask[:, :, 2] = False
    with capture(task, ("q", "k", "mask", "weights")) as records, torch.no_grad():
        task.second(task.first(torch.randn(3, 12, 8), mask=mask), mask=mask)
    layers = entmax_layers(task)
    found = probes(layers, records)
    for path, call, gold, seen in found:
        assert torch.equal(gold, records[path][0].weights > 0)
        assert call.q is not None
        assert torch.equal(seen, mask.expand_as(gold))
    own = agreement(found, None)
    assert own[1:] == (1.0, 1.0)
    shares = [(probe.gold & probe.seen).sum((-2, -1)) / probe.seen.sum((-2, -1)) for probe in found]
    assert own.sparsity == pytest.approx(1 - float(torch.stack(shares).mean()), abs=1e-6)
    full = agreement(found, replacements(layers, mode="gather", grouping="topk", knob=12))
    assert full == (pytest.approx(0.0), 1.0, 1.0)
    _, near = of_sparsity(layers, found, "topk", 6 / 9)
    assert near.sparsity == pytest.approx(6 / 9, abs=0.01)
    none = agreement(found, replacements(layers, mode="gather", grouping="l2", knob=1e-12))
    assert none == (1.0, 0.0, 0.0)


def test_in_patterns_of_a_sequence_other_queries_are_spread_over_the_keys() -> None:
    made = _OneSequence(2, 4, mode="gather", grouping="window", knob=1)
    q, k = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 6, 4)
    mask = torch.arange(6) < 4
    want = torch.zeros(3, 6, dtype=torch.bool)
    want[[0, 1, 2], [0, 2, 4]] = True
    assert (made.graph(q, k) == want).all()
    assert (made.graph(q, k, mask) == (want & mask)).all()
    assert (made.graph(k, k)[0, 0] == torch.eye(6)).all()
    torch.testing.assert_close(made(q, k, k)[0, 0], k[0, 0, [0, 2, 4]])


def test_attention_without_zeros_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"attention must be Entmax with alpha above 1 .* got Softmax"):
        run(tmp_path, Mixed(Softmax))
    with pytest.raises(MisconfigurationException, match="got Entmax"):
        run(tmp_path, Mixed(partial(Entmax, alpha=1.0)))


def test_a_missing_file_of_projections_is_named(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"AttentionSwap: .*none\.safetensors"):
        run(tmp_path, Mixed(), projections=str(tmp_path / "none.safetensors"))


def test_an_unknown_metric_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        MisconfigurationException, match="metric must be one of test/loss, test/part/error, test/error, got 'auc'"
    ):
        run(tmp_path, Mixed(), metric="auc", baselines=[])
    assert not list(tmp_path.iterdir())


class Batches(LightningDataModule):
    """Two batches of vectors."""

    def test_dataloader(self) -> DataLoader[Tensor]:
        rng = torch.Generator().manual_seed(1)
        data: Any = [torch.randn(4, 24, 8, generator=rng) for _ in range(2)]
        return DataLoader(data, batch_size=None)


class Counted(Mixed):
    """Counts the batches of its tests, and has a score of a part that only the second batch has."""

    batches = 0

    def test_step(self, x: Tensor, index: int) -> None:
        self.batches += 1
        super().test_step(x, index)
        if index == 1:
            self.log("test/second/error", x.mean())


@pytest.mark.parametrize(
    ("metric", "batches", "hint"),
    [("test/eror", 1, r" \(did you mean 'test/error'\?\)"), ("test/second/eror", 2, "")],
)
def test_an_unknown_metric_is_refused_before_the_test_or_of_a_part_after_it(
    tmp_path: Path, metric: str, batches: int, hint: str
) -> None:
    task = Counted()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[AttentionSwap(out=str(tmp_path), metric=metric, baselines=[])],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(MisconfigurationException, match=f"metric must be one of .*, got '{metric}'{hint}"):
        trainer.test(task, datamodule=Batches(), verbose=False)
    assert task.batches == batches
    assert not list(tmp_path.iterdir())


def test_the_metric_that_is_asked_for_is_compared_by_and_the_test_is_that_of_a_run_without_it(tmp_path: Path) -> None:
    found = []
    for metric in (None, "test/loss", "test/second/error"):
        task, folder = Counted(), tmp_path / str(len(found))
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            callbacks=[AttentionSwap(out=str(folder), metric=metric, baselines=[])],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        data = Batches()
        scores = trainer.test(task, datamodule=data, verbose=False)
        assert task.trainer is data.trainer is trainer
        with (folder / "attention_swap.csv").open() as file:
            row = next(csv.DictReader(file))
        assert row["metric"] == row[metric or "test/error"]
        assert trainer.state.fn == "test"
        found.append((scores, {**row, "metric": "", "seconds": ""}))
    assert found[0] == found[1] == found[2]


def test_a_test_without_metrics_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mixed, "log", lambda *_, **__: None)
    with pytest.raises(MisconfigurationException, match="the test logs no metric to compare by"):
        run(tmp_path, Mixed(), baselines=[])


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_test(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    task = Counted()
    with pytest.raises(DataError, match=r"file/attention_swap\.csv cannot be written"):
        run(tmp_path / "file", task)
    (tmp_path / "attention_swap.csv").mkdir()
    with pytest.raises(MisconfigurationException, match=r"AttentionSwap: .*attention_swap\.csv is no file"):
        run(tmp_path, task)
    assert task.batches == 0


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity must be in \(0, 1\), got 1.0"),
        ({"window": 3}, "window is of graphs of projections, and there are none, got window 3"),
        ({"probes": 0}, "probes must be at least 1, got 0"),
        ({"baselines": ["kmeans"]}, "baselines must be some of .*window.*, got 'kmeans'"),
        ({"groupings": ["window"]}, "groupings must be some of .*kmeans.*, got 'window'"),
        ({"groupings": ["fixed=few"]}, "the knob of a grouping must be a number, got 'fixed=few'"),
    ],
)
def test_wrong_arguments_are_named(own: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionSwap(**own)


def test_a_pattern_with_weights_of_its_own_is_no_baseline() -> None:
    assert "gate" not in AttentionSwap().baselines
    assert {"window", "topk", "pages"} < set(AttentionSwap().baselines)
    with pytest.raises(ValueError, match=r"baselines must be some of window, .*, topk, got .gate."):
        AttentionSwap(baselines=["gate"])


def test_results_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [Result("entmax", Agreement(0.5, 1.0, 1.0), 0.1, 2.0, {"test/error": 0.1})]
    figure = drawn(results, "test/error")
    write(tmp_path, results, figure)
    whole = (tmp_path / "attention_swap.png").read_bytes()
    assert whole.startswith(b"\x89PNG")

    def broken(target: Any, **_: Any) -> None:
        target.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(figure, "savefig", broken)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path, results, figure)
    assert (tmp_path / "attention_swap.png").read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attention_swap.csv", "attention_swap.png"]
