"""All callbacks on the pairs task; its tokens have location, value, member and role as metadata."""

from functools import partial
from pathlib import Path

import pytest
import torch

from callbacks import AttentionMaps, Embeddings, Trajectories, Weights
from datamodules import SyntheticPairs
from tabattn.pairs import NETWORKS, InferenceOptions
from tabattn.tasks import PairInference
from tests.callbacks.test_embeddings import folder, index, table
from tests.callbacks.tiny import board, trainer
from tests.helpers import build


@pytest.mark.parametrize("arch", ["TNPD", "TNPA"])
def test_every_callback_looks_at_the_pairs_task(arch: str, tmp_path: Path) -> None:
    task = PairInference(
        partial(NETWORKS[arch], dim=8, heads=2, hidden=8, layers=2),
        inference=InferenceOptions(samples=2, num_steps=3),
    )
    task.configure_optimizers = lambda: torch.optim.SGD(task.parameters(), lr=0.01)  # type: ignore[method-assign]
    data = build(
        SyntheticPairs,
        points=(6, 6),
        context=2,
        batch_size=3,
        steps_per_epoch=1,
        evaluation__val_batches=1,
        evaluation__test_batches=1,
        swap_roles=True,
    )
    callbacks = [AttentionMaps(), Embeddings(["network.blocks.0"]), Trajectories(tasks=2, attention_steps=1), Weights()]
    trainer(tmp_path, callbacks, max_epochs=1, num_sanity_val_steps=0).fit(task, data)
    images = board(tmp_path).Tags()["images"]
    assert {"inference/trajectories", "inference/attention_001"} < set(images)
    batch = next(iter(data.val_dataloader()))
    header, *rows = table(folder(tmp_path) / index(folder(tmp_path))["network.blocks.0:00001"].metadata_path)
    assert header[:4] == ["x", "y", "member", "role"]
    item, token = header.index("item"), header.index("token")
    assert len(rows) == batch.x.numel()
    for row in rows:
        place = int(row[item]), int(row[token])
        assert float(row[0]) == pytest.approx(batch.x[place].item())
        assert float(row[1]) == pytest.approx(batch.y[place].item())
        assert int(row[2]) == batch.member[place].item()
        assert row[3] == ("context" if place[1] < batch.context else "target")
