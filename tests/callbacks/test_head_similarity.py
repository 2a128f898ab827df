"""HeadSimilarity: values of known maps, groups of one shape, and a training left as it is."""

from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from callbacks import HeadSimilarity
from callbacks.head_plots import HeadGroup, draw
from callbacks.head_similarity import MOST_HEADS, _groups, similarities
from tests.callbacks.tiny import FirstTwo, TinyTask, Uniform, board, fit, metrics


def test_equal_heads_have_similarity_1_and_those_without_a_common_key_0() -> None:
    maps = torch.zeros(1, 4, 2, 4)
    maps[:, 0, :, :2] = maps[:, 1, :, :2] = 0.5
    maps[:, 2, :, 2:] = 0.5
    maps[:, 3] = 0.25
    found = similarities(maps)
    # Between two keys and all four: the divergence is 3/4 log2(4/3) in each half, so 1 - 0.311.
    half = 1 - 0.5 * (torch.tensor(4 / 3).log2() + 0.5 * torch.tensor(2 / 3).log2() + 0.5).item()
    assert found.diagonal().tolist() == pytest.approx([1.0] * 4)
    assert found[0].tolist() == pytest.approx([1.0, 1.0, 0.0, half], abs=1e-6)
    assert torch.allclose(found, found.T)


def test_queries_that_see_nothing_do_not_count() -> None:
    maps = torch.zeros(1, 2, 2, 2)
    maps[:, 0, 0], maps[:, 1, 0] = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])
    maps[:, 0, 1] = 0.5
    assert similarities(maps)[0, 1].item() == pytest.approx(1.0)
    assert similarities(maps * 0).isnan().all()


def test_signs_and_scales_of_weights_do_not_count() -> None:
    maps = torch.rand(2, 3, 4, 5)
    assert torch.allclose(similarities(maps), similarities(maps * torch.tensor([-1.0, 2.0, 7.0])[:, None, None]))
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    assert torch.allclose(similarities(maps), similarities(maps * signs))


def test_layers_of_one_shape_are_compared_as_far_as_a_panel_holds_them() -> None:
    maps = {
        "a": torch.ones(1, 4, 2, 3),
        "b": torch.ones(1, 4, 3, 3),
        "c": torch.ones(1, 2, 2, 3),
        "d": torch.ones(1, MOST_HEADS - 5, 2, 3),
    }
    assert [list(group) for group in _groups(maps)] == [["a", "c"], ["b"], ["d"]]


def test_any_number_of_heads_is_drawn() -> None:
    found = torch.rand(40, 40)
    many = HeadGroup(found, {f"network.{'long' * 20}": range(25), "b.mechanism": range(25, 40)})
    figure = draw([HeadGroup(torch.full((1, 1), torch.nan), {"a": range(1)}), many], "heads")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a"]
    labels = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert len(labels[0]) == 34
    assert labels[1] == "b"


def test_a_run_has_picture_and_scalars_and_trains_as_without(tmp_path: Path) -> None:
    plain, looking = TinyTask(), TinyTask()
    looking.load_state_dict(plain.state_dict())
    torch.manual_seed(1)
    fit(tmp_path / "plain", plain)
    torch.manual_seed(1)
    run = fit(tmp_path, looking, HeadSimilarity(every=2))
    assert looking.losses == plain.losses
    tags = board(tmp_path).Tags()
    assert tags["images"] == ["heads/head_similarity"]
    assert {tag for tag in tags["scalars"] if tag.startswith("heads")} == {
        "heads/blocks.0.mechanism/similarity",
        "heads/blocks.1.mechanism/similarity",
        "heads/blocks.1.mechanism/to_previous",
    }
    assert len(metrics(tmp_path, "heads/blocks.0.mechanism/similarity")) == 1
    assert (Path(run.log_dir or "") / "figures" / "validation_000003" / "head_similarity.png").exists()


@pytest.mark.parametrize("attention", [Uniform, FirstTwo])
def test_heads_that_see_alike_are_equal(tmp_path: Path, attention: type) -> None:
    fit(tmp_path, TinyTask(attention), HeadSimilarity(layers=r"blocks\.1"))
    assert metrics(tmp_path, "heads/blocks.1.mechanism/similarity") == pytest.approx([1.0, 1.0])
    assert "heads/blocks.0.mechanism/similarity" not in board(tmp_path).Tags()["scalars"]


def test_bad_options_and_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="items must be at least 1, got 0"):
        HeadSimilarity(items=0)
    with pytest.raises(MisconfigurationException, match=r"layers='x\.y' matches no attention layer; there are: blocks"):
        fit(tmp_path, TinyTask(), HeadSimilarity(layers="x.y"))
    task = TinyTask()
    task.blocks = torch.nn.ModuleList()
    with pytest.raises(MisconfigurationException, match="TinyTask has no attention mechanism to compare"):
        fit(tmp_path, task, HeadSimilarity())
