"""Free memory that the C library keeps goes back to the system."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from datamodules import SyntheticPrior
from tabattn.optim import heap
from tabattn.optim.heap import HeapRelease, release_heap, unused_heap
from tabattn.tasks import PriorClassification

MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def _glibc() -> None:
    if heap._LIBRARY is None:
        pytest.skip("the C library is not glibc 2.33 or later, which alone tells what it keeps")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def fragmented() -> torch.Tensor:
    """Free 200 MB below a tensor that stays."""
    large = torch.ones(8 * MEGABYTE)
    del large  # From now on, tensors of up to 32 MB come from the heap.
    parts = [torch.ones(MEGABYTE // 2) for _ in range(100)]
    last = torch.ones(MEGABYTE // 2)
    del parts
    return last


def test_free_memory_goes_back_to_the_system() -> None:
    kept = fragmented()
    assert unused_heap() > 150 * MEGABYTE
    before = resident()
    assert release_heap(100 * MEGABYTE)
    assert before - resident() > 150 * MEGABYTE
    assert torch.equal(kept, torch.ones_like(kept))


def test_little_memory_is_kept() -> None:
    kept = fragmented()
    before = resident()
    assert not release_heap(unused_heap())
    assert before - resident() < 20 * MEGABYTE
    assert release_heap(0)
    assert len(kept) == MEGABYTE // 2


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_LIBRARY", None)
    assert unused_heap() == 0
    assert not release_heap(0)


def test_a_training_releases_memory_every_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without asking for it, also from Python; counted over the epoch."""
    calls: list[int] = []
    monkeypatch.setattr(heap, "release_heap", lambda: calls.append(1))
    data = SyntheticPrior(batch_size=1, rows=(12, 14), features=(2, 2), classes=(2, 2), steps_per_epoch=40)
    given: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    trainer = Trainer(max_epochs=1, limit_val_batches=0, enable_progress_bar=False, **given)
    trainer.fit(PriorClassification(), data)
    assert len(calls) == 40 // 16
    assert sum(isinstance(callback, HeapRelease) for callback in trainer.callbacks) == 1


def test_no_steps_between_releases_are_refused() -> None:
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        HeapRelease(0)
