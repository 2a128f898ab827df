"""What callbacks draw of networks: attention beside edges, latents with their networks, curves of outputs."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from callbacks import AttentionMaps, Embeddings, OutputCurves
from tabattn.attention import Linear, Local, Mechanism, Softmax
from tabattn.attention.capture import capture
from tabattn.tasks import NetworkVAE
from tabattn.zoo import DAGNet, MLPMatrix, NeuronTokens, NeuronTransformer, Sizes, execute, from_module, tokenize
from tabattn.zoo.task_scores import task_r2
from tabattn.zoo.views import layers_of, output_curves
from tests.callbacks.tiny import board, trainer
from tests.zoo.networks import batch

SMALL: dict[str, Any] = {"dim": 16, "heads": 2, "hidden": 16, "layers": 2, "slots": 3, "weight_layers": 1, "latent": 8}


def task(attention: type[Mechanism] = Softmax, **options: Any) -> NetworkVAE:
    """Make a small task."""
    torch.manual_seed(0)
    return NetworkVAE(partial(NeuronTransformer, **SMALL | options), attention, sizes=Sizes(14, 4, 5, 4, 6)).eval()


@pytest.mark.parametrize("attention", [Softmax, Local, Linear])
@pytest.mark.parametrize("meta", ["token", "concat"])
def test_views_show_the_neurons_of_each_map(attention: type[Mechanism], meta: str) -> None:
    made, few = task(attention, meta=meta), batch(5)
    views = made.map_views(few, 2, 64)
    assert len([path for path in views if path.startswith("network.encoder.")]) == 2
    assert len([path for path in views if path.startswith("network.decoder.")]) == 3
    tokens = made.formed(few.tokens)
    with torch.no_grad(), capture(made, ("q", "k")) as records:
        made.probe(few)
    for path, view in views.items():
        (record,) = records[path]
        assert record.q is not None
        first, behind = view.queries.places[0], record.q.shape[2] - 14
        if path.startswith("network.encoder."):
            assert first == 0
        else:
            assert first == behind == 3 + (meta == "token")
        room = int(tokens.mask[:2].sum(1).max())
        assert view.keys.places == list(range(first, first + room))
        assert view.relation is not None
        for index in range(2):
            size = int(tokens.mask[index].sum())
            edge = tokens.edge[index, :size, :size]
            assert torch.equal(view.relation[index, :size, :size], (edge | edge.T).float())
            assert view.relation[index, size:].isnan().all()
        sizes = tokens.mask[:2].sum(1).tolist()
        assert view.keys.title == f"{'' if len(set(sizes)) == 1 else 'up to '}{max(sizes)} neurons"
    assert made.map_views(few, 2, 3)[path].queries.title.startswith("the first 3 of")


def test_layers_in_words() -> None:
    modules = [
        nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)),
        nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 2), nn.Sigmoid()),
    ]
    tokens = tokenize([from_module(module) for module in modules])
    assert isinstance(tokens, NeuronTokens)
    words = ["4-3tanh-1", "2-5relu-2sigmoid"]
    assert [layers_of(tokens, index) for index in range(2)] == words
    shown = [repr(DAGNet(from_module(module))) for module in modules]
    assert shown == [f"DAGNet({word}, weights={size})" for word, size in zip(words, (15, 20), strict=True)]


def test_points_have_task_depth_and_r2() -> None:
    made, few = task(), batch(5)
    for shape, each in (((5, 8), 1), ((5, 3, 8), 3)):
        columns = made.token_metadata("embedding", few, torch.zeros(shape))
        assert columns is not None
        assert list(columns) == ["network", "task", "depth", "parameters", "r2"]
        assert columns["task"] == few.task.repeat_interleave(each).tolist()
        assert columns["depth"][::each] == few.tokens.level.amax(1).tolist()
        r2 = task_r2(few.tokens, few.x[:, 8:], few.y[:, 8:])
        assert columns["r2"][::each] == pytest.approx(r2.tolist(), abs=1e-3)
    assert made.token_metadata("network.queries", few, torch.zeros(4, 8)) is None


def test_curves_are_outputs_along_a_line() -> None:
    few = batch(4)
    curves = output_curves(few, few.tokens, few.tokens._replace(bias=few.tokens.bias + 1), few.probe)
    assert [curve.title.split(":")[0] for curve in curves] == [f"network {n}, task {n % 3}" for n in range(4)]
    for index, curve in enumerate(curves):
        assert curve.x.shape == (101,)
        middle = execute(few.tokens, few.probe.mean(1, keepdim=True)).outputs[index, 0]
        torch.testing.assert_close(curve.true[50], middle)
        assert not torch.equal(curve.true, curve.found)


def test_the_line_is_the_direction_in_which_the_output_varies() -> None:
    module = nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[3.0, 0.0]]))
        module.bias.zero_()
    tokens = tokenize(from_module(module))
    assert isinstance(tokens, NeuronTokens)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    few = batch(1)._replace(probe=signs[None])
    (curve,) = output_curves(few, tokens, tokens, few.probe)
    torch.testing.assert_close(curve.true[:, 0], 3 * curve.x * float(torch.tensor([1.0, 1, -1, -1]).std()))


def test_every_callback_looks_at_the_task(tmp_path: Path) -> None:
    callbacks = [AttentionMaps(heads=[0], layers="encoder.1"), Embeddings(["embedding"]), OutputCurves(items=2)]
    run = trainer(tmp_path, callbacks, max_epochs=1, num_sanity_val_steps=0)
    loader = torch.utils.data.DataLoader([batch(4)], batch_size=None)  # type: ignore[arg-type]
    run.fit(task().train(), loader, loader)
    events = board(tmp_path)
    layer = "attention/network.encoder.1.rows.attention.mechanism"
    assert events.Tags()["images"] == [layer, "outputs/curves"]
    assert [event.value > 0 for event in events.Scalars(f"{layer}/overlap")] == [True]
    (table,) = (tmp_path / "board" / "version_0").rglob("metadata.tsv")
    with table.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["task"] for row in rows] == ["0", "1", "2", "0"]
    assert {"depth", "r2", "network"} <= set(rows[0])


def test_baselines_have_latents_and_curves_but_no_attention() -> None:
    made = NetworkVAE(partial(MLPMatrix, latent=8), sizes=Sizes(14, 4, 5, 4, 6)).eval()
    assert made.map_views(batch(3), 2, 64) == {}
    assert len(made.output_curves(batch(3))) == 3
