"""Attention between rows looks duplicates up; without it nothing can."""

from functools import partial

import lightning
import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.lookup import NoMixing, intervene
from datamodules import TableCells
from datamodules.reconstruction import ContextOptions, LookupOptions, MaskOptions
from tabattn.attention import AttentionFactory, Softmax
from tabattn.reconstruction import CellTransformer, LossOptions
from tabattn.tasks import TableReconstruction


def trained(attention: AttentionFactory, steps: int) -> tuple[TableReconstruction, TableCells, lightning.Trainer]:
    """Train a tiny network on a table whose target does not depend on its features."""
    lightning.seed_everything(0)
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 7)), columns=list("abcdefy"))
    lookup = LookupOptions(copies=True, shuffled=True)
    masks = MaskOptions(features=0.1, targets=1.0)
    data = TableCells(table, "y", masks=masks, context=ContextOptions(rows=16, lookup=lookup))
    network = partial(
        CellTransformer, dim=8, heads=1, hidden=16, layers=1, embedding="linear", datapoints="rows", dropout=0.0
    )
    task = TableReconstruction(network, attention, loss=LossOptions(density=0.0))
    task.check_data(data)
    task.use_optimizer(partial(torch.optim.AdamW, lr=1e-2))
    trainer = lightning.Trainer(
        max_steps=steps,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, data)
    return task, data, trainer


@pytest.mark.slow
def test_duplicates_are_looked_up_and_predictions_follow_an_intervention() -> None:
    task, data, trainer = trained(Softmax, 300)
    assert trainer.test(task, data, verbose=False)[0]["test/rmse"] < 0.3
    values, predicted = intervene(task, list(data.test_dataloader()), 6)
    assert np.corrcoef(values, predicted)[0, 1] > 0.98
    assert np.polyfit(values, predicted, 1)[0] == pytest.approx(1.0, abs=0.25)


def test_without_attention_between_rows_no_duplicate_is_looked_up() -> None:
    task, data, trainer = trained(NoMixing, 60)
    assert trainer.test(task, data, verbose=False)[0]["test/rmse"] > 0.9
    values, predicted = intervene(task, list(data.test_dataloader()), 6)
    assert np.polyfit(values, predicted, 1)[0] == pytest.approx(0.0, abs=1e-6)
