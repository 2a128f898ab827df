"""Pictures of networks: attention beside the true edges, and curves of outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from callbacks import AttentionMaps, OutputCurves
from callbacks.attention_maps import overlap
from callbacks.heatmaps import picture
from callbacks.output_curves import draw_curves
from tabattn.contract.views import Axis, MapView, OutputCurve
from tests.callbacks.tiny import HEADS, TOKENS, Batch, FirstTwo, TinyTask, board, fit, loader

PATH = "blocks.0.mechanism"


class Related(TinyTask):
    """Task each of whose tokens is related to the first."""

    def map_views(self, batch: Batch, items: int, tokens: int) -> dict[str, MapView]:
        axis = Axis(list(range(TOKENS)), [str(place) for place in range(TOKENS)], f"{TOKENS} tokens")
        relation = torch.zeros(1, TOKENS, TOKENS)
        relation[..., 0] = 1
        return {PATH: MapView({0: "first"}, axis, axis, relation, "edges")}


def test_maps_beside_a_relation(tmp_path: Path) -> None:
    fit(tmp_path, Related(FirstTwo), AttentionMaps(heads=[0]), max_epochs=1, limit_train_batches=1)
    events = board(tmp_path)
    assert events.Tags()["images"] == [f"attention/{PATH}"]
    # Three quarters of the weight lie on one key of five.
    (found,) = events.Scalars(f"attention/{PATH}/overlap")
    assert found.value == pytest.approx(0.75 * 5)


def test_a_relation_is_a_further_panel() -> None:
    weights = torch.full((1, HEADS, 4, 4), 0.25)
    related = torch.eye(4)[None]
    related[0, 1, 2] = torch.nan
    without, beside = (picture(weights, [0, 1], "title", 64, relation=each) for each in (None, related))
    assert beside.shape[0] == without.shape[0]
    panel = beside.shape[1] - without.shape[1]
    assert 100 < panel < without.shape[1]
    # As dark on the diagonal as the largest weight on the scale, grey elsewhere.
    row = beside[beside.shape[0] // 2 - 60]
    assert (row[-120 - panel : -120].std(0) > 20).any()


def test_overlap_counts_pairs_that_there_are() -> None:
    weights = torch.tensor([[[[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0], [0.2, 0.4, 0.4, 0.0]]]])
    relation = torch.tensor([[[1.0, 0, 0, torch.nan], [0, 1, 0, torch.nan], [0, 0, 0, torch.nan]]])
    assert overlap(weights, relation) == pytest.approx((0.5 + 0.0) / 2 * 3)
    assert np.isnan(overlap(weights, torch.zeros(1, 3, 4)))
    assert overlap(torch.full((2, 3, 4, 4), 0.25), torch.eye(4).expand(2, 4, 4)) == pytest.approx(1)


class Curved(TinyTask):
    """Task with curves of as many networks as the batch has items."""

    def output_curves(self, batch: Any) -> list[OutputCurve]:
        assert not self.training
        x = torch.linspace(-1, 1, 9)
        true = torch.stack([x, x**2], dim=1)
        return [OutputCurve(f"network {number}", x, true, true + torch.nan) for number in range(len(batch.y))]


def test_curves_after_validation_and_test(tmp_path: Path) -> None:
    run = fit(tmp_path, Curved(), OutputCurves(items=2), max_epochs=1, limit_train_batches=1)
    run.test(run.lightning_module, loader(1), verbose=False)
    assert board(tmp_path).Tags()["images"] == ["outputs/curves", "test/outputs/curves"]
    folder = tmp_path / "board" / "version_0" / "figures"
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert found == ["test_000001/curves.png", "validation_000001/curves.png"]


def test_curves_are_those_of_original_and_reconstruction() -> None:
    x = torch.linspace(0, 1, 5)
    curve = OutputCurve("network 3", x, x[:, None] * 2, x[:, None] * 3)
    figure = draw_curves([curve] * 5, "title")
    assert len([axes for axes in figure.axes if axes.lines]) == 5
    first, second = figure.axes[0].lines
    assert (first.get_label(), second.get_label()) == ("original", "decoded")
    np.testing.assert_allclose(first.get_ydata(), 2 * x.numpy())
    np.testing.assert_allclose(second.get_ydata(), 3 * x.numpy())
    assert figure.axes[0].get_title() == "network 3"


def test_a_task_without_networks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="TinyTask has no networks to plot"):
        fit(tmp_path, TinyTask(), OutputCurves())
    with pytest.raises(ValueError, match=r"items must be in \[1, 24\], got 0"):
        OutputCurves(items=0)
    with pytest.raises(ValueError, match="every must be at least 1"):
        OutputCurves(every=0)
