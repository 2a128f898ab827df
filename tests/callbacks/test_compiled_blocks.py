"""Compiled blocks: every network and mechanism without graph breaks, with the results and names of the plain ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from callbacks.compiled_blocks import CompiledBlocks, blocks
from tabattn.attention import MECHANISMS, Softmax
from tabattn.attention.capture import capture
from tabattn.nn.block import row_block
from tests.training import test_again

# Both are PyTorch's own.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]

Case = Callable[[Path], test_again.Made]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def fit(case: Case, folder: Path, *callbacks: Callback) -> Any:
    torch.manual_seed(0)
    task, data = case(folder)
    trainer = Trainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        limit_val_batches=0,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    torch.manual_seed(1)
    trainer.fit(task, *data)
    return task


@pytest.mark.parametrize(
    "case", [test_again.prior, test_again.inference, test_again.reconstruction, test_again.networks]
)
def test_a_training_is_that_of_the_plain_network(case: Case, tmp_path: Path) -> None:
    """Also a network that is compiled, trained and evaluated has the names of its weights, and is plain afterwards."""
    plain, compiled = fit(case, tmp_path), fit(case, tmp_path, CompiledBlocks("eager"))
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]
    assert all(part._compiled_call_impl is None for part in compiled.modules())
    assert torch._dynamo.config.recompile_limit != 64


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_mechanism_is_compiled_as_a_whole(name: str) -> None:
    block = row_block(8, 2, 16, MECHANISMS[name])
    block.compile(backend="eager", fullgraph=True)
    for length in (12, 9):
        x = torch.randn(2, length, 8, requires_grad=True)
        found = block(x, 5)
        found.square().sum().backward()
        found = block.eval()(x, 5)
        with torch.compiler.set_stance("force_eager"):
            torch.testing.assert_close(found, block(x, 5))
        block.train()


def test_capture_looks_into_compiled_blocks() -> None:
    block = row_block(8, 2, 16).eval()
    x = torch.randn(2, 5, 8)
    with capture(block) as expected:
        block(x)
    block.compile(backend="eager", fullgraph=True)
    block(x)
    with capture(block) as found:
        block(x)
    assert found.keys() == expected.keys()
    for path, (record,) in found.items():
        assert record.weights is not None
        assert torch.equal(record.weights, expected[path][0].weights)


def test_blocks_are_the_elements_of_the_outermost_lists() -> None:
    layers = nn.ModuleList(nn.ModuleDict({"inner": nn.ModuleList([row_block(8, 2, 16)])}) for _ in range(2))
    mixed = nn.ModuleList([row_block(8, 2, 16), nn.Linear(8, 8)])
    model = nn.ModuleDict({"layers": layers, "others": nn.ModuleList([nn.Linear(2, 2)]), "mixed": mixed})
    assert list(blocks(model)) == list(layers)


def test_what_cannot_be_compiled_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="SparsefinderProjections has no blocks with attention"):
        fit(test_again.sparsity, tmp_path, CompiledBlocks("eager"))

    class Broken(Softmax):
        def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
            torch._dynamo.graph_break()
            return super().forward(q, k, v, mask)

    def case(folder: Path) -> test_again.Made:
        made, data = test_again.inference(folder)
        made.network.blocks[0].rows.attention.mechanism = Broken(2, 4)
        return made, data

    with pytest.raises(MisconfigurationException, match="CompiledBlocks: Block cannot be compiled: ") as caught:
        fit(case, tmp_path, CompiledBlocks("eager"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"backend must be one of .*inductor.*, got 'gcc'"):
        CompiledBlocks("gcc")
