"""Smallest comparisons, of which a cell takes about a second."""

from pathlib import Path
from typing import Any

from tabattn.compare import plan
from tabattn.compare.plan import Settings
from tabattn.compare.store import Store

FLAGS = (
    *("--model.network.dim=8", "--model.network.hidden=8", "--model.network.heads=2", "--model.network.layers=2"),
    *("--data.points=[8,8]", "--data.context=3", "--data.batch_size=2", "--data.steps_per_epoch=4"),
    *("--data.evaluation.val_batches=1", "--data.num_workers=0", "--trainer.accelerator=cpu"),
)


def settings(choices: tuple[str, ...] = ("Softmax",), seeds: int = 1, steps: int = 6, **others: Any) -> Settings:
    budget = {"kind": "steps", "value": steps}
    return Settings(**{"config": ("pairs",), "flags": FLAGS, **others}, choices=choices, seeds=seeds, budget=budget)


def comparison(folder: Path, *args: Any, **others: Any) -> tuple[Store, list[str]]:
    """Write a comparison, and return its store and its keys."""
    store, given = Store(folder), settings(*args, **others)
    planned = plan.cells_of(given)
    plan.write(store, given, planned, {cell.label: given.budget["value"] for cell in planned}, "compare")
    return store, [cell.key for cell in planned]
