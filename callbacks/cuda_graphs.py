"""Training steps as replays of CUDA graphs, under the Trainer."""

import inspect
from typing import Any, cast

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.optimization.automatic import ClosureResult
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from tabattn.contract.errors import one_line
from tabattn.optim.divergence import DivergenceGuard
from tabattn.optim.replays import Graphs, Replays, make_capturable, make_ordinary
from tabattn.optim.schedule_free import ScheduleFree, has_modes
from tabattn.optim.step_logs import StepLogs

WITHIN = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Hooks within a step, which a replay does not call."""

Logged = list[tuple[str, Any, dict[str, Any]]]


class CudaGraphs(Callback):
    """Callback that takes training steps as replays of CUDA graphs, which spares small networks the launch of kernels.

    ``--trainer.callbacks+=CudaGraphs``. Each sort of batch, by its shapes and the size of its context, has a graph of
    loss, gradients, clipping and optimizer; its first batch is an ordinary step, the second is recorded. Results are
    those of ordinary steps within rounding; logs, schedules and checkpoints are as without. ``DivergenceGuard`` judges
    the loss alone.

    Args:
        most: Most graphs that are kept; batches of further sorts are ordinary steps.

    Raises:
        MisconfigurationException: There is no GPU, or the training has what a graph cannot replay: several processes,
            accumulated gradients, a gradient scaler, a hook within steps, a step that waits for the GPU or changes in
            more than its batch.
    """

    def __init__(self, most: int = 64) -> None:
        if most < 1:
            raise ValueError(f"most must be at least 1, got {most}")
        self.most = most
        self.batch: Any = None
        self.logged: Logged = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if problem := self._refusal(trainer, pl_module):
            raise MisconfigurationException(f"CudaGraphs: {problem}")
        self.task = cast("StepLogs", pl_module)
        self.optimizer = trainer.optimizers[0]
        make_capturable(self.optimizer, pl_module.device)
        self.replays = Replays(self._work, self._recorder(pl_module.device), self.most)
        pl_module.__dict__["optimizer_step"] = self._step

    def _recorder(self, device: torch.device) -> Any:
        return Graphs(device)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batch = batch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pl_module.__dict__.pop("optimizer_step", None) is not None:
            make_ordinary(self.optimizer.param_groups)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the optimizer as one of ordinary steps."""
        for state in checkpoint.get("optimizer_states", ()):
            state["param_groups"] = [dict(group) for group in state["param_groups"]]
            make_ordinary(state["param_groups"])

    def _refusal(self, trainer: Trainer, task: LightningModule) -> str | None:
        """Why steps cannot be replayed; None = they can."""
        if (kind := self._device(task)) != "cuda":
            return f"steps are replayed on a GPU alone, and this training is on {kind}"
        if not isinstance(task, StepLogs):
            return f"{type(task).__name__} is not a Task"
        if trainer.world_size > 1:
            return f"steps are replayed in one process alone, got {trainer.world_size}"
        if trainer.accumulate_grad_batches != 1:
            return f"accumulate_grad_batches must be 1, got {trainer.accumulate_grad_batches}"
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return f"precision {trainer.precision} scales gradients, which a graph cannot: give bf16-mixed"
        if has_modes(trainer.optimizers[0]):
            return f"the optimizer {type(trainer.optimizers[0]).__name__} has modes, which a graph has not"
        for each in cast("Any", trainer).callbacks:
            if isinstance(each, DivergenceGuard):
                if each.action == "skip":
                    return "guard.action must be stop or off, got skip: a graph leaves no step out"
            elif not isinstance(each, ScheduleFree) and any(is_overridden(name, each, Callback) for name in WITHIN):
                return f"{type(each).__name__} acts within steps, of which a graph is one"
        return None

    def _device(self, task: LightningModule) -> str:
        return task.device.type

    def _work(self, batch: Any) -> tuple[Tensor, Logged]:
        """Take an ordinary step, and keep what is logged."""
        trainer, optimizer = self.task.trainer, self.optimizer
        logged: Logged = []
        signature = inspect.signature(LightningModule.log_dict)

        def log(name: str, value: Any, **options: Any) -> None:
            logged.append((name, value.detach() if isinstance(value, Tensor) else value, options))

        def log_dict(*args: Any, **options: Any) -> None:
            given = signature.bind(self.task, *args, **options).arguments
            given.pop("self")
            for name, value in given.pop("dictionary").items():
                log(name, value, **given)

        self.task.__dict__ |= {"log": log, "log_dict": log_dict}
        try:
            optimizer.zero_grad(set_to_none=True)
            with trainer.precision_plugin.forward_context():
                loss = self.task.training_step(batch, 0)
            assert isinstance(loss, Tensor)
            loss.backward()
        finally:
            del self.task.__dict__["log"], self.task.__dict__["log_dict"]
        if (clip := trainer.gradient_clip_val) is not None:
            self.task.configure_gradient_clipping(optimizer, clip, trainer.gradient_clip_algorithm)
        optimizer.step()
        return loss.detach(), logged

    def _step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take the place of the task's ``optimizer_step``."""
        if problem := self.task.unreplayable(self.batch):
            raise MisconfigurationException(f"CudaGraphs: {problem}")
        try:
            loss, logged = self.replays(self.batch)
        except (RuntimeError, ValueError) as ex:
            if "captur" in str(ex) or isinstance(ex, ValueError):
                name = type(self.task).__name__
                raise MisconfigurationException(
                    f"CudaGraphs: a step of {name} cannot be recorded: {one_line(str(ex))}"
                ) from ex
            raise
        for name, value, options in logged:
            self.task.log(name, value.clone() if isinstance(value, Tensor) else value, **options)
        # What Lightning would get by calling the closure.
        optimizer_closure._result = ClosureResult.from_training_step_output(loss.clone())
        self.optimizer._opt_called = True  # type: ignore[attr-defined]
