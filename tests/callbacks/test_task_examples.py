"""Plots of training and test tasks: once, before anything is trained, and training stays bit-identical."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from matplotlib.colors import to_hex, to_rgb

from callbacks import TaskExamples
from callbacks.curves import exact_bands
from callbacks.heatmaps import render
from callbacks.task_panels import Example, colour_of, draw_examples
from datamodules import SyntheticPairs
from tabattn.contract.batches import PairBatch
from tabattn.contract.views import ExactDensity
from tests.callbacks.pairs import TinyPairs, fit
from tests.callbacks.test_curves import exact_density
from tests.callbacks.tiny import TinyTask, board, trainer
from tests.helpers import build


def data(**changes: Any) -> SyntheticPairs:
    sizes: dict[str, Any] = {"points": (8, 8), "context": 3, "batch_size": 3, "steps_per_epoch": 2}
    return build(SyntheticPairs, **{**sizes, "evaluation__val_batches": 1, "evaluation__test_batches": 1, **changes})


def pair() -> PairBatch:
    """A task of 4 context points and 3 targets, of which a context point and a target have no value."""
    y = torch.tensor([[0.0, 1, math.nan, 3, 4, math.nan, 6]])
    return PairBatch(torch.arange(7.0)[None], y, torch.tensor([[0, 0, 1, 1, 1, 1, 0]]), 4)


def test_two_pictures_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[Example]] = {}

    def watched(examples: list[Example], title: str, names: Any) -> Any:
        assert title not in drawn
        drawn[title] = examples
        return draw_examples(examples, title, names)

    monkeypatch.setattr("callbacks.task_panels.draw_examples", watched)
    pairs = data()
    trainer(tmp_path, [TaskExamples()], max_epochs=2).fit(TinyPairs(), pairs)
    training, test = drawn["first tasks of training"], drawn["first tasks of test"]
    assert torch.equal(training[0].batch.y, next(iter(data().train_dataloader())).y[:2])
    assert torch.equal(test[1].batch.y, next(iter(data().test_dataloader())).y[:2])
    assert [example.number for example in test] == [0, 1]
    assert all(example.exact is not None for example in (*training, *test))
    assert sorted(board(tmp_path).Tags()["images"]) == ["tasks/test", "tasks/training"]
    home = tmp_path / "board" / "version_0" / "figures" / "fit_000000"
    assert sorted(path.name for path in home.iterdir()) == ["test.png", "training.png"]


def test_a_resumed_run_draws_none(tmp_path: Path) -> None:
    first = trainer(tmp_path, [], max_epochs=1)
    first.fit(TinyPairs(), data())
    first.save_checkpoint(tmp_path / "first.ckpt")
    again = trainer(tmp_path, [TaskExamples()], max_epochs=2)
    again.fit(TinyPairs(), data(), ckpt_path=tmp_path / "first.ckpt", weights_only=True)
    assert again.global_step == 4
    assert not list(tmp_path.rglob("*.png"))


def test_training_is_bit_identical(tmp_path: Path) -> None:
    results = []
    for callbacks in ([], [TaskExamples(tasks=1)]):
        torch.manual_seed(3)
        task = TinyPairs()
        trainer(tmp_path, callbacks, max_epochs=1).fit(task, data())
        results.append((task.losses, torch.get_rng_state()))
    (losses, state), (looked_losses, looked_state) = results
    assert losses == looked_losses
    assert torch.equal(state, looked_state)


def test_context_is_filled_and_targets_are_rings_in_the_colour_of_their_member() -> None:
    figure = draw_examples([Example("task", pair(), 0)], "title", ["a", "b"])
    (axes,) = figure.axes
    assert axes.get_title() == "task: 3 context, 3 targets"
    found = [
        (
            np.asarray(dots.get_offsets())[:, 0].tolist(),
            to_hex(dots.get_edgecolor()[0]),
            tuple(dots.get_facecolor()[0, :3]) == to_rgb("white"),
        )
        for dots in axes.collections
    ]
    assert found == [
        ([0, 1], colour_of(0), False),
        ([6], colour_of(0), True),
        ([3], colour_of(1), False),
        ([4], colour_of(1), True),
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["context", "target", "a", "b"]
    assert render(figure).std() > 0


def test_the_exact_density_of_the_targets_is_drawn() -> None:
    exact = exact_density()
    figure = draw_examples([Example("task", pair(), 0, exact)], "title")
    lines = [line.get_xydata() for line in figure.axes[0].lines if line.get_linestyle() in ("--", ":")]
    bands = exact_bands(exact, 0)
    half = 0.004 * 6  # Of a target alone, the only one of its member.
    expected = [(x, values[part]) for part, x in (([2, 2], [6 - half, 6 + half]), ([0, 1], [4, 5])) for values in bands]
    for line, (x, y) in zip(lines, expected, strict=True):
        np.testing.assert_allclose(line, np.stack([x, y], 1))
    assert [text.get_text() for text in figure.legends[0].get_texts()][2:4] == ["member 0", "member 1"]


def test_lines_of_the_exact_density_break_at_context_that_was_observed() -> None:
    y = torch.tensor([[1.0, torch.nan, 0, 1, 2, 3, 4]])
    x = torch.tensor([[2.5, 0.5, 0, 1, 2, 3, 4]])
    batch = PairBatch(x, y, torch.zeros(1, 7, dtype=torch.long), 2)
    exact = ExactDensity(torch.ones(1, 1), y[:, 2:, None].double(), torch.ones(1, 5, 1).double())
    figure = draw_examples([Example("task", batch, 0, exact)], "title")
    (mean,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert np.nan_to_num(mean.get_xdata(), nan=-1).tolist() == [0, 1, 2, -1, 3, 4]


def test_padding_is_not_drawn() -> None:
    batch = pair()._replace(padding=torch.tensor([[False, True, False, False, False, False, True]]))
    (axes,) = draw_examples([Example("task", batch, 0)], "title").axes
    shown = sorted(x for dots in axes.collections for x in np.asarray(dots.get_offsets())[:, 0].tolist())
    assert shown == [0, 3, 4]
    assert axes.get_title() == "task: 2 context, 2 targets"


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tasks must be in \[1, 8\], got 0"):
        TaskExamples(tasks=0)
    with pytest.raises(MisconfigurationException, match=r"plots tasks of sequences.* loaders without a datamodule"):
        fit(tmp_path, TinyTask(), TaskExamples())
