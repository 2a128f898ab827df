"""CUDA graphs under the Trainer: the steps, logs, schedules and checkpoints of ordinary steps; on a CPU by a stand-in.

The stand-in of a graph does the recorded work again at each replay.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.optim import SGD, AdamW

from callbacks.cuda_graphs import CudaGraphs
from tabattn.optim import MuonAdamW
from tabattn.optim.divergence import DivergenceGuard
from tabattn.optim.replays import Replays
from tabattn.reconstruction.options import LossOptions
from tests.training import test_again

STEPS = 8
CONSTANT = LossOptions(tradeoff=0.5, annealing="constant")


class OnCpu(CudaGraphs):
    """Graphs whose replay does the work again, on a CPU."""

    replayed = 0

    def _device(self, task: Any) -> str:
        return "cuda"

    def _recorder(self, device: torch.device) -> Any:
        def record(work: Callable[[], None]) -> Callable[[], None]:
            def replay() -> None:
                self.replayed += 1
                work()

            return replay

        return record


def fit(case: Any, folder: Path, *callbacks: Callback, optimizer: Any = None, **options: Any) -> tuple[Any, Path]:
    torch.manual_seed(0)
    task, data = case(folder)
    task.use_optimizer(optimizer or partial(MuonAdamW, lr=0.01))
    logger = CSVLogger(folder, name="graphs" if callbacks else "plain")
    saving = ModelCheckpoint(logger.log_dir, "last", save_top_k=-1, every_n_train_steps=STEPS)
    given: dict[str, Any] = {"max_steps": STEPS, "accelerator": "cpu", "limit_val_batches": 0, "log_every_n_steps": 1}
    given |= {"enable_progress_bar": False, "enable_model_summary": False, "gradient_clip_val": 0.5}
    trainer = Trainer(logger=logger, callbacks=[saving, *callbacks], **given | options)
    torch.manual_seed(1)
    trainer.fit(task, *data)
    return task, Path(logger.log_dir)


def reconstruction(folder: Path, loss: LossOptions = CONSTANT) -> Any:
    task, data = test_again.reconstruction(folder)
    task.loss = loss
    return task, data


@pytest.mark.parametrize("optimizer", [None, partial(AdamW, lr=0.01, fused=True)], ids=["muon", "adamw"])
@pytest.mark.parametrize("case", [test_again.inference, reconstruction])
def test_a_training_is_that_of_ordinary_steps(case: Any, optimizer: Any, tmp_path: Path) -> None:
    graphs = OnCpu()
    (plain, one), (graphed, other) = (fit(case, tmp_path, *given, optimizer=optimizer) for given in ((), (graphs,)))
    assert graphs.replayed > 1
    for ours, theirs in zip(graphed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)  # Rates are rounded to float32.
    lines = [[line.split(",") for line in (each / "metrics.csv").read_text().splitlines()] for each in (one, other)]
    assert lines[0][0] == lines[1][0]
    assert len(lines[0]) == len(lines[1]) == 1 + STEPS
    for ours, theirs in zip(*([cell for line in each[1:] for cell in line] for each in lines), strict=True):
        assert ours == theirs or float(ours) == pytest.approx(float(theirs), rel=1e-4)
    saved, expected = (
        torch.load(each / "last.ckpt", weights_only=True)["optimizer_states"][0] for each in (other, one)
    )
    for ours, theirs in zip(saved["param_groups"], expected["param_groups"], strict=True):
        assert ours["lr"] == pytest.approx(theirs["lr"], rel=1e-5)
        assert isinstance(ours["lr"], float)
        assert not ours["capturable"]
    assert "optimizer_step" not in graphed.__dict__
    assert isinstance(graphed.trainer.optimizers[0].param_groups[0]["lr"], float)


def test_each_sort_of_batch_has_a_graph_up_to_the_most() -> None:
    done: list[Any] = []
    recorded: list[Callable[[], None]] = []

    def record(work: Callable[[], None]) -> Callable[[], None]:
        recorded.append(work)
        return work

    def work(batch: dict[str, Any]) -> float:
        done.append(batch)
        return float(batch["x"].sum()) + batch["context"]

    replays = Replays(work, record, most=2)

    def ask(length: int, context: int, value: float = 1.0) -> float:
        return replays({"x": torch.full((length,), value), "context": context, "none": None})

    assert [ask(2, 1), ask(2, 1), ask(2, 1, 5.0)] == [3.0, 3.0, 11.0]
    assert len(recorded) == 1
    assert done[1]["x"] is done[2]["x"] is not done[0]["x"]
    assert [ask(2, 2), ask(2, 2), ask(3, 1), ask(3, 1), ask(3, 1, 2.0)] == [4.0, 4.0, 4.0, 4.0, 7.0]
    assert len(recorded) == 2
    assert ask(2, 1, 7.0) == 15.0
    with pytest.raises(ValueError, match="a batch holds a object, which is neither a tensor nor a plain value"):
        replays({"x": object()})


def test_a_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="on a GPU alone, and this training is on cpu"):
        fit(test_again.inference, tmp_path, CudaGraphs())


def test_what_a_graph_cannot_replay_is_refused(tmp_path: Path) -> None:
    class Reader(Callback):
        def on_after_backward(self, trainer: Any, pl_module: Any) -> None: ...

    refused = partial(fit, test_again.inference, tmp_path)
    for message, call in {
        "accumulate_grad_batches must be 1, got 2": partial(refused, OnCpu(), accumulate_grad_batches=2),
        "Reader acts within steps": partial(refused, OnCpu(), Reader()),
        "guard.action must be stop or off, got skip": partial(refused, OnCpu(), DivergenceGuard("skip")),
    }.items():
        with pytest.raises(MisconfigurationException, match=f"CudaGraphs: {message}"):
            call()
    with pytest.raises(ValueError, match="most must be at least 1, got 0"):
        CudaGraphs(0)


def test_steps_that_change_by_themselves_are_refused(tmp_path: Path) -> None:
    annealed = partial(reconstruction, loss=LossOptions(tradeoff=0.5, annealing="cosine"))
    with pytest.raises(MisconfigurationException, match=r"CudaGraphs: loss.tradeoff is annealed"):
        fit(annealed, tmp_path, OnCpu())
    task, _ = test_again.networks(tmp_path)
    assert ("warmed up" in (task.unreplayable(None) or "")) == bool(task.loss.warmup)


def test_a_step_that_waits_for_the_gpu_is_refused(tmp_path: Path) -> None:
    class Waiting(OnCpu):
        def _recorder(self, device: torch.device) -> Any:
            def record(work: Any) -> Any:
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

            return record

    with pytest.raises(MisconfigurationException, match="a step of PairInference cannot be recorded: CUDA error"):
        fit(test_again.inference, tmp_path, Waiting())


def test_another_error_is_its_own(tmp_path: Path) -> None:
    def broken(folder: Path) -> Any:
        task, data = test_again.inference(folder)

        def training_step(*_: Any) -> Any:
            raise RuntimeError("a fault")

        task.training_step = training_step
        return task, data

    with pytest.raises(RuntimeError, match=r"^a fault$"):
        fit(broken, tmp_path, OnCpu(), optimizer=partial(SGD, lr=0.1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_replays_on_a_gpu(tmp_path: Path) -> None:
    (plain, _), (graphed, _) = (
        fit(test_again.inference, tmp_path, *given, accelerator="cuda") for given in ((), (CudaGraphs(),))
    )
    for ours, theirs in zip(graphed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
