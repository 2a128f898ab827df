"""Two ranks on the CPU reconstruct a table as one process does: rows that are kept, steps, and scores."""

from functools import partial
from typing import Any

import lightning
import pytest
import torch

from datamodules import TableCells
from datamodules.reconstruction import ContextOptions
from tabattn.reconstruction import GaussianTransformer, ProcessTransformer
from tabattn.tasks import TableReconstruction

SMALL: dict[str, Any] = {"dim": 8, "heads": 2, "hidden": 8, "layers": 1, "dropout": 0.0}
NETWORKS: dict[str, tuple[Any, str]] = {
    "numbers alone": (partial(ProcessTransformer, most_rows=50, **SMALL), "sklearn:diabetes"),
    "classes": (partial(ProcessTransformer, most_rows=50, **SMALL), "sklearn:iris"),
    "joint": (partial(GaussianTransformer, **SMALL), "sklearn:iris"),
}


def trainer(ranks: int) -> lightning.Trainer:
    """Make a trainer whose step has two batches: of one rank each, or of one process one after the other."""
    return lightning.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy="ddp_fork" if ranks > 1 else "auto",
        accumulate_grad_batches=2 // ranks,
        max_epochs=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def trained(ranks: int, case: str) -> tuple[dict[str, torch.Tensor], dict[str, float], dict[str, float]]:
    """Train; return weights with kept rows, scores of the validation, and of the test."""
    network, table = NETWORKS[case]
    data = TableCells(table, steps_per_epoch=6 // ranks, context=ContextOptions(rows=64))
    torch.manual_seed(0)
    task = TableReconstruction(network).use_optimizer(partial(torch.optim.SGD, lr=0.05), None)
    task.check_data(data)
    run = trainer(ranks)
    run.fit(task, data)
    val = {name: float(value) for name, value in run.callback_metrics.items() if name.startswith("val/")}
    return task.state_dict(), val, dict(run.test(task, data, verbose=False)[0])


def compare(index: int, case: str) -> None:
    """Compare two ranks with one process. Forks must not come after a backward pass of their parent."""
    torch.set_num_threads(1)
    (weights, val, test), (one, one_val, one_test) = (trained(ranks, case) for ranks in (2, 1))
    kept = {name: value for name, value in weights.items() if name.endswith("_extra_state")}
    assert all(len(value) > 100 for value in kept.values())
    assert bool(kept) == (case != "joint")
    assert weights.keys() == one.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-6, msg=name)
    assert {"val/loss", "test/loss"} <= {*val, *test}
    assert val == pytest.approx(one_val, rel=1e-4, abs=1e-6)
    assert test == pytest.approx(one_test, rel=1e-4, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(NETWORKS))
def test_two_ranks_reconstruct_as_one_process(case: str) -> None:
    torch.multiprocessing.spawn(compare, (case,), nprocs=1)


@pytest.mark.slow
def test_a_network_that_other_processes_would_build_is_refused() -> None:
    """What they have trained would not come back."""
    task = TableReconstruction(NETWORKS["joint"][0])
    with pytest.raises(Exception, match=r"trains in other processes: call task.check_data\(data\) before"):
        trainer(2).fit(task, TableCells("sklearn:iris", steps_per_epoch=2))
