"""Abstract base class of tasks: initial weights, optimizers, and safe checkpoints."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, NoReturn, Self, cast

from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.model_helpers import _restricted_classmethod
from torch import nn
from torch.optim import AdamW
from torchmetrics import Metric

from tabattn.contract.errors import one_line
from tabattn.contract.facts import Fact, check_facts, fact_of
from tabattn.contract.views import Shown
from tabattn.optim import WarmupCosine
from tabattn.optim.divergence import refuse_diverged, refuse_loaded
from tabattn.optim.factories import OptimizerFactory, ScheduleFactory, check_factory, described_together
from tabattn.optim.schedule import with_schedule
from tabattn.optim.schedule_free import ScheduleFree, has_modes
from tabattn.optim.settings import OptimizerSettings
from tabattn.optim.step_logs import StepLogs
from tabattn.storage.checkpoint_files import find
from tabattn.storage.checkpoints import forget_foreign_paths
from tabattn.storage.class_paths import guard
from tabattn.storage.hyperparameters import check_saved
from tabattn.storage.loading import check_own, saved_hyperparameters, upgraded_source
from tabattn.storage.matching import load_matching
from tabattn.storage.resumption import Resumption


class Task(Shown, StepLogs):
    """Abstract base of tasks: a LightningModule with a loss and metrics around a network.

    Args:
        init_from: Checkpoint or weight file (.safetensors) to initialise the network from, by matching name and shape.
            Unlike ``--ckpt_path`` it keeps the command line's model, so a trained network can be run with another
            mechanism.

    Raises:
        ValueError: ``init_from`` is a URL or a folder, or there is no such file.
    """

    task_name: ClassVar[str]
    """Name of the task's run folder."""

    batch: ClassVar[type] = object
    """Type of the batches that the task reads."""

    optimizer: ClassVar[OptimizerFactory] = partial(AdamW, lr=1e-3)
    """Default optimizer of a training from Python; ``use_optimizer`` sets another. Not used by the command line."""

    lr_scheduler: ClassVar[ScheduleFactory | None] = WarmupCosine
    """Default schedule of a training from Python."""

    facts: ClassVar[Mapping[str, Fact]] = {}
    """What the task asks of its datamodule, by the name of the attribute."""

    moved: ClassVar[Mapping[str, str]] = {}
    """Present configuration path of each argument of earlier versions; see ``tabattn.storage.earlier``."""

    def __init__(self, init_from: str | None = None) -> None:
        super().__init__()
        # In predict, some ranks have no batch if there are fewer batches than ranks.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        if init_from is not None:
            try:
                find(init_from)
            except ValueError as ex:
                raise ValueError(f"init_from: {ex}") from ex
        self.init_from = init_from
        # Beginnings of the names of what a callback has filled, which init_from leaves as it is.
        self.filled: tuple[str, ...] = ()
        self.network: nn.Module
        # Version counters of the initial weights; None = the weights come from a file or a training.
        self._initial: list[int] | None = None
        self._factories: tuple[OptimizerFactory, ScheduleFactory | None] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "network" and isinstance(value, nn.Module):
            self._initial = _versions(value)

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: Sequence[str] | str | None = None,
        frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Store the constructor's arguments as hyperparameters, and check that a checkpoint can hold them.

        Raises:
            ValueError: A checkpoint cannot hold an argument, such as a lambda.
        """
        current = inspect.currentframe()
        super().save_hyperparameters(*args, ignore=ignore, frame=frame or (current and current.f_back), logger=logger)
        if "_instantiator" not in self.hparams:
            for name, value in self.hparams.items():
                check_saved(name, value)

    def check_data(self, datamodule: Any) -> None:
        """Check that a datamodule that declares its batch type (``batch``) makes the one that the task reads.

        Raises:
            MisconfigurationException: It makes another one.
        """
        made = getattr(datamodule, "batch", None)
        if isinstance(made, type) and not issubclass(made, self.batch):
            self._refuse(made, type(datamodule).__name__)

    def on_train_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Check the type of each batch, wherever it comes from.

        Raises:
            MisconfigurationException: The task does not read such batches.
        """
        if not isinstance(batch, self.batch):
            self._refuse(type(batch), "the data")

    on_validation_batch_start = on_test_batch_start = on_predict_batch_start = on_train_batch_start

    def _refuse(self, made: type, maker: str) -> NoReturn:
        raise MisconfigurationException(
            f"{type(self).__name__} reads {self.batch.__name__}, {maker} makes {made.__name__}"
        )

    def on_train_start(self) -> None:
        """Mark the weights as trained."""
        self._initial = None

    @property
    def untrained(self) -> bool:
        """Whether the weights are as they were drawn: not loaded, trained or set in any way in this process."""
        return self._initial is not None and self._initial == _versions(self.network)

    def on_validation_start(self) -> None:
        """Warn if an untrained network is evaluated or asked for predictions outside of a training.

        A network whose weights were loaded or trained in any way in this process counts as trained.
        """
        if self.trainer.state.fn == "fit" or not self.untrained:
            return
        rank_zero_warn(
            f"the weights of {type(self).__name__} are random, so its answers are those of an untrained network: "
            "give a checkpoint by --ckpt_path (from Python ckpt_path=...), or weights by init_from"
        )

    on_test_start = on_predict_start = on_validation_start

    def on_validation_epoch_start(self) -> None:
        """Reset all metrics: an earlier evaluation may have been interrupted, or have been in inference mode.

        Lightning evaluates in inference mode, but not within a training, where what that mode has made cannot be
        updated.
        """
        for part in self.modules():
            if isinstance(part, Metric):
                part.reset()

    on_test_epoch_start = on_validation_epoch_start

    def setup(self, stage: str) -> None:
        """Check the data, and load the initial weights once.

        Raises:
            MisconfigurationException: The datamodule makes other batches, or lacks a fact that the task needs.
        """
        data = getattr(self.trainer, "datamodule", None)
        self.check_data(data)
        check_facts(data, self.facts, type(self).__name__)
        if self.init_from is not None:
            prefix = "network."
            filled = [name.removeprefix(prefix) for name in self.filled if name.startswith(prefix)]
            load_matching(self.network, self.init_from, type(self), filled)
            self.init_from = self._initial = None

    def use_optimizer(
        self, optimizer: OptimizerFactory | None = None, lr_scheduler: ScheduleFactory | None = WarmupCosine
    ) -> Self:
        """Set the optimizer and the schedule of a training from Python.

        They are not saved as hyperparameters: a task loaded from a checkpoint has its defaults again.

        Args:
            optimizer: Makes the optimizer from the parameters, such as ``functools.partial(torch.optim.SGD, lr=0.1)``;
                None = the task's default.
            lr_scheduler: Makes the schedule from the optimizer, stepped after every batch; None = a constant learning
                rate. The default is dropped for a schedule-free optimizer.

        Returns:
            The task.

        Raises:
            ValueError: One is neither None nor can be called.
        """
        check_factory("optimizer", optimizer)
        check_factory("lr_scheduler", lr_scheduler)
        self._factories = (optimizer or type(self).optimizer, lr_scheduler)
        return self

    def configure_optimizers(self) -> Any:
        """Build the optimizer and the schedule of ``use_optimizer``, by default those of the task.

        Raises:
            MisconfigurationException: A run without end has no schedule over all of its steps.
        """
        make, schedule = self._factories or (type(self).optimizer, type(self).lr_scheduler)
        optimizer = make(self.parameters())
        if schedule is WarmupCosine and has_modes(optimizer):
            schedule = None
        self.optimizer_settings = described_together(make, schedule)
        self.optimizer_is_default = self._factories is None
        return with_schedule(self, optimizer, None if schedule is None else schedule(optimizer))

    def configure_callbacks(self) -> list[Callback]:
        """Add the callbacks for exact resume and schedule-free optimizers to a trainer without them."""
        callbacks: list[Callback] = cast("Any", self.trainer).callbacks
        present = {type(callback) for callback in callbacks}
        if Resumption not in present:
            # First of the callbacks, as any other may save a checkpoint in its hooks.
            callbacks[:0] = [OptimizerSettings(), Resumption()]
        return [] if ScheduleFree in present else [ScheduleFree()]

    def of_data(self, name: str) -> Any:
        """Return a fact of the datamodule, one of ``facts``, or its default.

        Raises:
            MisconfigurationException: The datamodule lacks a fact that is required, or has one of a wrong type.
        """
        return fact_of(getattr(self.trainer, "datamodule", None), name, self.facts[name], type(self).__name__)

    @_restricted_classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **kwargs: Any,
    ) -> Self:
        """Load a task from a checkpoint of any origin, without running code of it.

        Args:
            checkpoint_path: Path of a local file.
            map_location: Device of the weights; by default the one they were saved on.
            hparams_file: YAML file with other hyperparameters than the checkpoint's.
            strict: Whether the weights must match the network exactly.
            weights_only: Kept for the signature of the base class: a checkpoint with more than weights and plain values
                is refused.
            kwargs: Hyperparameters that replace those of the checkpoint.

        Raises:
            ValueError: The path is not that of a local file; the checkpoint is of another task; its hyperparameters and
                weights do not match, or name a class that is not allowed (see ``trusted``).
            DataError: The file is damaged or not a checkpoint.
        """
        try:
            with guard([cls.__module__]):
                source: Any = upgraded_source(cls, checkpoint_path)
                return super().load_from_checkpoint(
                    source, map_location, hparams_file, strict, weights_only=True, **kwargs
                )
        except (ArgumentError, ValueError, TypeError, RuntimeError, LookupError, AttributeError) as ex:
            raise ValueError(f"{checkpoint_path} holds no such task: {one_line(str(ex))}") from ex

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write factories as class paths, so that the checkpoint loads with ``weights_only=True``.

        Raises:
            DivergenceError: The weights are not finite.
        """
        refuse_diverged(self._trainer, self, checkpoint)
        if (hparams := checkpoint.get("hyper_parameters")) is not None:
            checkpoint["hyper_parameters"] = saved_hyperparameters(type(self), hparams)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that are not finite or of another network; drop paths outside the run folder.

        Raises:
            ValueError: The checkpoint is of another task, or its network has other tensors.
            DataError: The weights are not finite.
        """
        check_own(self, checkpoint)
        refuse_loaded(self, checkpoint)
        self._initial = None
        if self._trainer is not None:
            forget_foreign_paths(self._trainer, checkpoint)


def _versions(network: nn.Module) -> list[int]:
    """Version counter of each parameter, which every in-place change increments."""
    return [-1 if parameter.is_inference() else parameter._version for parameter in network.parameters()]
