"""Probe: a forward pass on a cut batch that leaves no trace."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from callbacks.probe import cut, run, unnoticed
from tests.callbacks.tiny import DIM, TOKENS, TinyTask, trainer


def test_a_task_without_probe_is_run_by_its_predict_step() -> None:
    class Plain(nn.Module):
        def predict_step(self, batch: Tensor) -> Tensor:
            return batch + 1

    class Indexed(nn.Module):
        def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return batch + 2 + batch_idx

    assert run(Plain(), torch.zeros(())) == 1  # type: ignore[arg-type]
    assert run(Indexed(), torch.zeros(())) == 2  # type: ignore[arg-type]


def test_looking_leaves_modes_random_states_and_gradients_alone(tmp_path: Path) -> None:
    task = TinyTask().train()
    task.blocks[1].eval()
    modes = [module.training for module in task.modules()]
    state = torch.get_rng_state()
    with unnoticed(trainer(tmp_path), task):
        assert not any(module.training for module in task.modules())
        assert not task(torch.rand(1, TOKENS, DIM)).requires_grad
    assert [module.training for module in task.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_cut_keeps_structure_and_owns_its_memory() -> None:
    whole: dict[str, Any] = {
        "x": torch.arange(12.0).view(4, 3),
        "other": [torch.arange(3), torch.tensor(7)],
        "name": "a",
    }
    part = cut(whole, 2)
    assert part["name"] == "a"
    assert torch.equal(part["x"], whole["x"][:2])
    assert torch.equal(part["other"][0], torch.arange(3))
    assert part["x"].untyped_storage().nbytes() == 6 * 4
    with pytest.raises(ValueError, match="at least one tensor that has axes, got str"):
        cut("text", 2)
