"""AttentionMaps: pictures and statistics are right, and training stays bit-identical."""

import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from PIL import Image
from torch import Tensor, nn

from callbacks import AttentionMaps, Embeddings
from tabattn.attention import MECHANISMS
from tests.callbacks.tiny import (
    HEADS,
    TOKENS,
    Batch,
    FirstTwo,
    TinyTask,
    Uniform,
    board,
    fit,
    loader,
    metrics,
    trainer,
)

LAYERS = [f"blocks.{number}.mechanism" for number in range(2)]


def test_every_layer_logs_a_bounded_picture_scalars_and_histograms_after_each_validation(tmp_path: Path) -> None:
    fit(tmp_path, TinyTask(), AttentionMaps())
    events = board(tmp_path)
    tags = events.Tags()
    assert tags["images"] == [f"attention/{layer}" for layer in LAYERS]
    assert {tag for tag in tags["scalars"] if tag.startswith("attention/")} == {
        f"attention/{layer}/{name}" for layer in LAYERS for name in ("entropy", "support", "max_weight")
    }
    assert set(tags["histograms"]) == {
        f"attention/{layer}/entropy/head{head}" for layer in LAYERS for head in range(HEADS)
    }
    for tag in tags["images"]:
        assert [event.step for event in events.Images(tag)] == [3, 6]
        image = events.Images(tag)[0]
        assert (image.width, image.height) == Image.open(io.BytesIO(image.encoded_image_string)).size
        assert 300 < image.width < 1000
        assert 300 < image.height < 1000
    histogram = events.Histograms(f"attention/{LAYERS[0]}/entropy/head0")[0].histogram_value
    assert histogram.num == 2 * TOKENS
    assert 0 <= histogram.min <= histogram.max <= math.log(TOKENS) + 1e-6


@pytest.mark.parametrize(
    ("mechanism", "entropy", "support", "largest"),
    [
        (Uniform, math.log(TOKENS), TOKENS, 1 / TOKENS),
        (FirstTwo, -0.75 * math.log(0.75) - 0.25 * math.log(0.25), 2, 0.75),
    ],
)
def test_scalars_say_what_a_known_map_is_and_reach_every_logger(
    tmp_path: Path, mechanism: Any, entropy: float, support: float, largest: float
) -> None:
    fit(tmp_path, TinyTask(mechanism), AttentionMaps())
    events = board(tmp_path)
    for layer in LAYERS:
        for name, value in (("entropy", entropy), ("support", support), ("max_weight", largest)):
            tag = f"attention/{layer}/{name}"
            assert [event.value for event in events.Scalars(tag)] == pytest.approx([value, value], abs=1e-5)
            assert metrics(tmp_path, tag) == pytest.approx([value, value], abs=1e-5)


@pytest.mark.parametrize("name", list(MECHANISMS))
def test_any_mechanism_can_be_looked_at(tmp_path: Path, name: str) -> None:
    fit(tmp_path, TinyTask(MECHANISMS[name]), AttentionMaps(), max_epochs=1, limit_train_batches=1)
    support = [event.value for event in board(tmp_path).Scalars(f"attention/{LAYERS[0]}/support")]
    assert len(support) == 1
    assert support[0] >= 1


def test_training_is_bit_identical_with_and_without_looking(tmp_path: Path) -> None:
    results = []
    for callbacks in ([], [AttentionMaps(), Embeddings(["blocks.0", "head"])]):
        torch.manual_seed(3)
        task = TinyTask()
        fit(tmp_path, task, *callbacks)
        results.append((task.losses, [*task.state_dict().values()], torch.get_rng_state()))
        assert len(task.probed) == (2 * (1 + 2) if callbacks else 0)
    (losses, weights, state), (looked_losses, looked_weights, looked_state) = results
    assert losses == looked_losses
    assert all(torch.equal(one, two) for one, two in zip(weights, looked_weights, strict=True))
    assert torch.equal(state, looked_state)


def test_nothing_is_logged_when_switched_off(tmp_path: Path) -> None:
    fit(tmp_path, TinyTask())
    tags = board(tmp_path).Tags()
    assert tags["images"] == tags["histograms"] == []
    assert not any(tag.startswith("attention") for tag in tags["scalars"])
    assert not list(tmp_path.rglob("projector_config.pbtxt"))


def test_the_probe_is_one_fixed_cut_of_the_first_batch(tmp_path: Path) -> None:
    task = TinyTask()
    fit(tmp_path, task, AttentionMaps(items=3))
    first: Batch = next(iter(loader(2)))
    assert len(task.probed) == 2
    for batch in task.probed:
        assert isinstance(batch, Batch)
        assert torch.equal(batch.x, first.x[:3])
        assert torch.equal(batch.y, first.y[:3])
        assert batch.context == 3


def test_every_skips_validations_but_never_the_first(tmp_path: Path) -> None:
    fit(tmp_path, TinyTask(), AttentionMaps(every=2), max_epochs=3)
    assert [event.step for event in board(tmp_path).Images(f"attention/{LAYERS[0]}")] == [3, 9]


def test_layers_and_heads_narrow_what_is_shown(tmp_path: Path) -> None:
    fit(tmp_path, TinyTask(), AttentionMaps(layers=r"blocks\.1", heads=[1]), max_epochs=1)
    tags = board(tmp_path).Tags()
    assert tags["images"] == [f"attention/{LAYERS[1]}"]
    assert tags["histograms"] == [f"attention/{LAYERS[1]}/entropy/head1"]


def test_a_test_run_is_shown_under_its_own_name(tmp_path: Path) -> None:
    trainer(tmp_path, [AttentionMaps(every=5)]).test(TinyTask(), loader(), verbose=False)
    assert board(tmp_path).Tags()["images"] == [f"test/attention/{layer}" for layer in LAYERS]


def test_a_fast_dev_run_goes_through_and_writes_nothing(tmp_path: Path) -> None:
    task = TinyTask()
    fit(tmp_path, task, AttentionMaps(), Embeddings(), fast_dev_run=True)
    assert len(task.probed) == 2
    assert not list(tmp_path.rglob("*tfevents*"))


def test_other_ranks_do_not_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TinyTask()
    run = trainer(tmp_path, [AttentionMaps(), Embeddings()])
    monkeypatch.setattr(type(run), "is_global_zero", False)
    run.fit(task, loader(), loader())
    assert not task.probed


def test_a_forward_pass_without_attention_is_reported(tmp_path: Path) -> None:
    class Blind(TinyTask):
        def probe(self, batch: Batch) -> Tensor:
            return batch.x

    with pytest.warns(UserWarning, match="AttentionMaps saw no attention layer at work on the validation probe"):
        fit(tmp_path, Blind(), AttentionMaps(), max_epochs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"items": 0}, r"items must be in \[1, 8\], got 0"),
        ({"max_tokens": 500}, r"max_tokens must be in \[1, 128\], got 500"),
        ({"heads": []}, r"heads must be distinct numbers from 0, at least one, got \[\]"),
        ({"heads": [0, 0]}, r"heads must be distinct"),
        ({"heads": list(range(17))}, "heads must name at most 16 heads, got 17"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttentionMaps(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "rows"}, "layers='rows' matches no attention layer; there are: blocks.0.mechanism, blocks.1"),
        ({"heads": [1, 2]}, r"heads must be below 2, the heads of blocks.0.mechanism, got \[1, 2\]"),
    ],
)
def test_choices_that_the_network_does_not_have_stop_the_run(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        fit(tmp_path, TinyTask(), AttentionMaps(**arguments))


@pytest.mark.parametrize("callback", [AttentionMaps(), Embeddings()])
def test_a_run_without_tensorboard_or_without_attention_is_refused(tmp_path: Path, callback: Any) -> None:
    with pytest.raises(MisconfigurationException, match=r"needs a TensorBoardLogger .* got none: add one"):
        fit(tmp_path, TinyTask(), callback, logger=False)
    task = TinyTask()
    task.blocks = nn.ModuleList()
    with pytest.raises(MisconfigurationException, match="TinyTask has no"):
        fit(tmp_path, task, callback)
