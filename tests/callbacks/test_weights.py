"""Weights: rows of matrices in the projector, histograms of weights and gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import Weights
from tabattn.pairs import TokenOptions
from tests.callbacks.pairs import TinyPairs, fit
from tests.callbacks.test_embeddings import folder, index, points, table
from tests.callbacks.tiny import board

TABLE = "network.tokens.member.learned.weight"


class Known(TinyPairs):
    """Remembers its gradients at the end of each step."""

    def on_train_batch_end(self, *_: Any) -> None:
        self.gradients = {name: value.grad.clone() for name, value in self.named_parameters() if value.grad is not None}


def test_rows_of_a_table_are_points_with_metadata_that_line_up(tmp_path: Path) -> None:
    task = Known(tokens=TokenOptions(member_embed="learned"), members=3)
    start = task.state_dict()[TABLE].clone()
    fit(tmp_path, task, Weights(every=2, histograms=False))
    entries = index(folder(tmp_path))
    assert set(entries) == {f"weights/{TABLE}:{step:05d}" for step in (1, 3, 4)}
    entry = entries[f"weights/{TABLE}:00004"]
    end = task.state_dict()[TABLE]
    torch.testing.assert_close(points(folder(tmp_path) / entry.tensor_path), end, rtol=1e-5, atol=1e-6)
    header, *rows = table(folder(tmp_path) / entry.metadata_path)
    assert header == ["row", "norm", "moved"]
    assert [row[0] for row in rows] == ["0", "1", "2"]
    found = torch.tensor([[float(value) for value in row[1:]] for row in rows])
    expected = torch.stack([end.norm(dim=1), (end - start).norm(dim=1)], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    # The tasks have two sequences: the third row was never used.
    assert found[:2, 1].min() > 0
    assert found[2, 1] == 0


def test_weights_and_last_gradients_have_histograms(tmp_path: Path) -> None:
    task = Known()
    fit(tmp_path, task, Weights(every=1))
    events = board(tmp_path)
    names = [name for name, _ in task.named_parameters()]
    assert set(events.Tags()["histograms"]) == {f"{kind}/{name}" for kind in ("weights", "gradients") for name in names}
    for name, weight in task.named_parameters():
        for kind, values in (("weights", weight), ("gradients", task.gradients[name])):
            (last,) = events.Histograms(f"{kind}/{name}")  # The reader keeps the last one only.
            assert last.step == 4
            assert last.histogram_value.num == values.numel()
            assert last.histogram_value.min == pytest.approx(values.min().item(), abs=1e-6)
            assert last.histogram_value.max == pytest.approx(values.max().item(), abs=1e-6)


def test_a_gradient_that_is_not_finite_does_not_end_the_run(tmp_path: Path) -> None:
    class Broken(TinyPairs):
        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            for weight in self.parameters():
                assert weight.grad is not None
                weight.grad.fill_(torch.nan)

    with pytest.warns(UserWarning, match="not finite and are left out"):
        fit(tmp_path, Broken(), Weights(), max_epochs=1)
    assert not any(tag.startswith("gradients") for tag in board(tmp_path).Tags()["histograms"])


def test_a_look_comes_once_for_each_step_that_is_due(tmp_path: Path) -> None:
    fit(tmp_path, TinyPairs(), Weights(every=2), accumulate_grad_batches=2, max_epochs=4)
    tags = EventAccumulator(str(folder(tmp_path)), size_guidance={"histograms": 0}).Reload()
    name = "network.head.mlp.0.weight"
    assert [event.step for event in tags.Histograms(f"weights/{name}")] == [1, 3, 4]
    assert [event.step for event in tags.Histograms(f"gradients/{name}")] == [1, 3]


def test_matrices_are_chosen_by_name_and_old_steps_leave(tmp_path: Path) -> None:
    fit(tmp_path, TinyPairs(), Weights(matrices=r"head\.mlp\.0", every=2, keep=1), max_epochs=3)
    assert set(index(folder(tmp_path))) == {"weights/network.head.mlp.0.weight:00006"}


def test_without_embeddings_the_first_matrix_is_shown(tmp_path: Path) -> None:
    task = TinyPairs()
    fit(tmp_path, task, Weights(), max_epochs=1)
    first = next(name for name, value in task.named_parameters() if value.dim() == 2)
    assert set(index(folder(tmp_path))) == {f"weights/{first}:{step:05d}" for step in (1, 2)}


def test_choices_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Weights(keep=0)
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Weights(every=0)
    with pytest.raises(MisconfigurationException, match=r"matrices='nowhere' matches no matrix; there are: network\."):
        fit(tmp_path, TinyPairs(), Weights(matrices="nowhere"))
    with pytest.raises(MisconfigurationException, match="Weights draws on TensorBoard and needs"):
        fit(tmp_path, TinyPairs(), Weights(), logger=False)
