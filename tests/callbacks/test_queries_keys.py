"""Recorder of queries and keys: what it records is what attention saw."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from callbacks import QueryKeyRecorder
from callbacks.queries_keys import outermost, visible
from datamodules.sparsity.records import RecordFile
from tabattn.attention import Entmax, Softmax
from tabattn.contract.errors import DataError
from tabattn.nn.multihead import MultiheadAttention


class Two(LightningModule):
    """Mixes tokens twice: all, by Entmax, and the first three from all, by another mechanism; a mask hides the last."""

    def __init__(self, second: Any = Softmax, mask: Tensor | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = MultiheadAttention(8, 2, partial(Entmax, alpha=1.25))
        self.second = MultiheadAttention(8, 2, second)
        self.hidden = mask

    def predict_step(self, x: Tensor) -> Tensor:
        return self.second(self.first(x, mask=self.hidden)[:, :3], x)


def predict(task: LightningModule, recorder: QueryKeyRecorder | None, batches: int = 3) -> list[Tensor]:
    torch.manual_seed(1)
    data = [torch.randn(4, 6, 8) for _ in range(batches)]
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[] if recorder is None else [recorder],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    found: Any = trainer.predict(task, DataLoader(data, batch_size=None))  # type: ignore[arg-type]
    return list(found)


def test_queries_and_keys_are_recorded_and_predictions_are_the_same(tmp_path: Path) -> None:
    task = Two(partial(Entmax, learn_alpha=True))
    plain = predict(task, None)
    found = predict(task, QueryKeyRecorder(f"{tmp_path}/a.h5", items=None, per_call=None))
    assert all(torch.equal(one, other) for one, other in zip(plain, found, strict=True))
    records = RecordFile(tmp_path / "a.h5")
    assert [each.layer.path for each in records.layers] == ["first.mechanism", "second.mechanism"]
    first, second = records.layers
    assert first.layer[1:] == (2, 4, (1.25, 1.25), 0.5)
    assert second.layer.alpha == pytest.approx((1.5, 1.5))
    assert (first.queries.tolist(), second.queries.tolist(), second.keys.tolist()) == ([6] * 12, [3] * 12, [6] * 12)
    assert first.group.tolist() == [number // 4 for number in range(12)]
    torch.manual_seed(1)
    x = torch.randn(4, 6, 8)
    item = records.item(0, 2)
    assert torch.allclose(item.q, task.first.queries(x)[2], atol=1e-6)
    assert torch.allclose(item.k, task.first.keys_values(x)[0][2], atol=1e-6)
    assert item.v is not None
    assert torch.allclose(item.v, task.first.keys_values(x)[1][2], atol=1e-6)
    assert item.mask is None


def test_hidden_keys_and_blind_queries_are_left_out(tmp_path: Path) -> None:
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    mask[..., 4] = False
    mask[:, :, 1] = False
    predict(Two(mask=mask), QueryKeyRecorder(f"{tmp_path}/a.h5", layers="first"), batches=1)
    records = RecordFile(tmp_path / "a.h5")
    assert (records.layers[0].queries.tolist(), records.layers[0].keys.tolist()) == ([5] * 4, [5] * 4)
    assert records.item(0, 0).mask is None


def test_masks_with_a_row_for_each_query_are_kept(tmp_path: Path) -> None:
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    predict(Two(mask=causal), QueryKeyRecorder(f"{tmp_path}/a.h5"), batches=1)
    mask = RecordFile(tmp_path / "a.h5").item(0, 3).mask
    assert mask is not None
    assert torch.equal(mask, causal)
    with pytest.raises(MisconfigurationException, match=r"first\.mechanism has a mask that differs by head"):
        predict(Two(mask=torch.stack([causal, causal.T])[None]), QueryKeyRecorder(f"{tmp_path}/b.h5"))
    assert not (tmp_path / "b.h5").exists()


def test_limits_spread_items(tmp_path: Path) -> None:
    predict(Two(), QueryKeyRecorder(f"{tmp_path}/a.h5", items=5, per_call=2, dtype="float16", values=False))
    records = RecordFile(tmp_path / "a.h5")
    assert records.layers[0].group.tolist() == [0, 0, 1, 1, 2]
    assert records.item(0, 0).v is None
    task = Two()
    torch.manual_seed(1)
    q = task.first.queries(torch.randn(4, 6, 8))
    # Evenly spaced: the first and the last element of the batch.
    for place, element in enumerate((0, 3)):
        assert torch.allclose(records.item(0, place).q, q[element], atol=2e-3)


def test_layers_without_zeros_are_left_out_or_taken_at_an_alpha(tmp_path: Path) -> None:
    predict(Two(), QueryKeyRecorder(f"{tmp_path}/a.h5"))
    assert len(RecordFile(tmp_path / "a.h5").layers) == 1
    predict(Two(), QueryKeyRecorder(f"{tmp_path}/b.h5", alpha=2.0))
    assert [each.layer.alpha[0] for each in RecordFile(tmp_path / "b.h5").layers] == [1.25, 2.0]
    with pytest.raises(MisconfigurationException, match=r"no alpha above 1: second\.mechanism; train with Entmax"):
        predict(Two(), QueryKeyRecorder(f"{tmp_path}/c.h5", layers="second"))
    with pytest.raises(MisconfigurationException, match="layers='third' matches no attention layer; there are: first"):
        predict(Two(), QueryKeyRecorder(f"{tmp_path}/c.h5", layers="third"))
    with pytest.raises(MisconfigurationException, match="give another name, or overwrite=true"):
        predict(Two(), QueryKeyRecorder(f"{tmp_path}/a.h5"))
    predict(Two(), QueryKeyRecorder(f"{tmp_path}/a.h5", overwrite=True))


def test_mechanisms_within_others_are_no_layers() -> None:
    class Wrapping(Softmax):
        def __init__(self, heads: int, head_dim: int) -> None:
            super().__init__(heads, head_dim)
            self.inner = Entmax(heads, head_dim)

    assert list(outermost(nn.ModuleDict({"a": Wrapping(2, 4), "ab": Entmax(2, 4)}))) == ["a", "ab"]


def test_visible_parts_of_a_mask() -> None:
    rows, columns, seen = visible(torch.tensor([[True, False, True]]), 2, 3)
    assert (rows.tolist(), columns.tolist(), seen) == ([0, 1], [0, 2], None)
    rows, columns, seen = visible(torch.tensor([[False, False], [True, False], [True, True]]), 3, 2)
    assert rows.tolist() == [1, 2]
    assert seen is not None
    assert seen.tolist() == [[True, False], [True, True]]
    assert not len(visible(torch.zeros(1, 1, dtype=torch.bool), 2, 2)[0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"items": 0}, "items must be at least 1 or None, got 0"),
        ({"per_call": 0}, "per_call must be at least 1"),
        ({"alpha": 1.0}, r"alpha must be in \(1, 2\], got 1.0"),
        ({"dtype": "int"}, "dtype must be float32 or float16, got 'int'"),
    ],
)
def test_arguments_are_checked(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        QueryKeyRecorder(**options)


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/more/a\.h5 cannot be written: Not a directory"):
        predict(Two(), QueryKeyRecorder(str(tmp_path / "file" / "more" / "a.h5")))
    predict(Two(), QueryKeyRecorder(str(tmp_path / "new" / "more" / "a.h5")))
