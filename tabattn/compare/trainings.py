"""Trainings that stand side by side in one process, to take a step of each in turn."""

import contextlib
import io
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

from tabattn.cli import CLI
from tabattn.contract.errors import one_line
from tabattn.contract.library_warnings import ordinary_runs
from tabattn.task import Task

ALONE = [
    *(f"--trainer.enable_{what}=false" for what in ("checkpointing", "progress_bar", "model_summary")),
    *("--trainer.num_sanity_val_steps=0", "--trainer.limit_val_batches=0", "--trainer.devices=1"),
]
"""Arguments of a training that saves nothing and is not validated."""


class MeasuredError(Exception):
    """End of a training whose steps were measured."""


@dataclass(eq=False)
class Training:
    """Training of a task by its configuration.

    Args:
        label: What is compared.
        arguments: Arguments of ``train.py fit``.
        batches: Number of different batches.
    """

    label: str
    arguments: Sequence[str]
    batches: int
    drawn: list[Any] = field(default_factory=list)
    reason: str = ""
    """Why its steps cannot be measured; empty = they can."""
    entered: bool = False
    """Whether the training came to its first batch."""
    after: Callable[["Training", int], None] | None = None
    """Called before each step of the Trainer's own loop, which follows the measurement; None = there is no loop."""

    def build(self, folder: str) -> None:
        """Build task, data and trainer.

        Args:
            folder: Folder of the logger.

        Raises:
            ValueError: The command line refuses the arguments.
        """
        said = io.StringIO()
        written = ["--trainer.logger=TensorBoardLogger", f"--trainer.logger.save_dir={folder}"]
        try:
            with contextlib.redirect_stderr(said):
                cli = CLI([*self.arguments, *ALONE, *written], run=False)
        except SystemExit:
            lines = said.getvalue().strip().splitlines()
            raise ValueError(lines[-1].removeprefix("error: ") if lines else "refused") from None
        self.task: Task = cli.model
        self.data: LightningDataModule = cli.datamodule
        self.trainer: Trainer = cli.trainer
        if hasattr(self.data, "num_workers"):
            self.data.num_workers = 0
        original = self.data.train_dataloader
        self.data.train_dataloader = lambda: self._loader(original())

    def _loader(self, loader: Any) -> Any:
        """Draw the batches that all steps take, spread over the whole training."""
        if not self.drawn:
            count = self.trainer.max_steps * self.accumulated
            if self.trainer.max_steps <= 0:
                count = len(loader) * (self.trainer.max_epochs or 1)
            self.drawn = list(spread(loader, self.batches, count))
        return _Cycle(self.drawn, len(loader))

    @property
    def accumulated(self) -> int:
        """Batches of a step."""
        return self.trainer.accumulate_grad_batches

    def fit(self, inside: Callable[[], None]) -> None:
        """Start the training, call ``inside`` before its first batch, then ``after`` before each step.

        Args:
            inside: Called when everything is set up.

        Raises:
            MeasuredError: The training was ended, as it always is.
        """
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        callbacks.append(_Entry(self, inside))
        with ordinary_runs(False):
            self.trainer.fit(self.task, datamodule=self.data)

    def enter(self) -> None:
        """Move the batches to the device, once the training is set up."""
        self.entered = True
        self.optimizer = self.trainer.optimizers[0]
        move = self.trainer.strategy.batch_to_device
        convert = self.trainer.precision_plugin.convert_input
        self.placed = [move(convert(batch), dataloader_idx=0) for batch in self.drawn]

    def step(self, number: int) -> None:
        """Take a training step without the Trainer's loop: loss, gradients, clipping and optimizer.

        Args:
            number: Number of the batch, the first one of those whose gradients are accumulated.
        """
        plugin, optimizer = self.trainer.precision_plugin, self.optimizer
        scaler = getattr(plugin, "scaler", None)
        with silent(self.task):
            optimizer.zero_grad()
            for place in range(number, number + self.accumulated):
                with plugin.forward_context():
                    loss = self.task.training_step(self.placed[place % len(self.placed)], place)
                assert isinstance(loss, Tensor)
                (loss if scaler is None else scaler.scale(loss)).div(self.accumulated).backward()
            if scaler is not None:
                scaler.unscale_(optimizer)
            if (clip := self.trainer.gradient_clip_val) is not None:
                self.task.configure_gradient_clipping(optimizer, clip, self.trainer.gradient_clip_algorithm)
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()


class _Cycle:
    """Loader that repeats batches, of the length of another."""

    def __init__(self, batches: Sequence[Any], length: int) -> None:
        self.batches = batches
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(itertools.cycle(self.batches), self.length)


class _Entry(Callback):
    """Callback that calls a function before the first batch of a training, and another before each step."""

    def __init__(self, training: Training, inside: Callable[[], None]) -> None:
        self.training = training
        self.inside = inside

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.training.entered:
            self.training.enter()
            self.inside()
            if self.training.after is None or self.training.reason:
                raise MeasuredError

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert self.training.after is not None
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.training.after(self.training, batch_idx % len(self.training.drawn))


@contextlib.contextmanager
def silent(task: LightningModule) -> Iterator[None]:
    """Context in which a task logs nothing."""
    task.__dict__["log"] = task.__dict__["log_dict"] = lambda *_, **__: None
    try:
        yield
    finally:
        del task.__dict__["log"], task.__dict__["log_dict"]


def spread(loader: Any, count: int, total: int) -> Iterator[Any]:
    """Yield batches of a loader that are spread over a training, whose batches may change in size.

    Args:
        loader: Loader of the training; one without a position yields its first batches.
        count: Number of batches.
        total: Batches of the training.
    """
    if not hasattr(loader, "load_state_dict"):
        yield from itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), count)
        return
    for number in range(count):
        loader.load_state_dict({"position": total * (2 * number + 1) // (2 * count)})
        yield next(iter(loader))


def together(trainings: Sequence[Training], use: Callable[[list[Training]], None]) -> None:
    """Start trainings one within the other, so that all stand at their first batch at the same time.

    The failure of one becomes its reason, and does not stop the others.

    Args:
        trainings: The trainings.
        use: Called with those that were started; all are ended afterwards.
    """
    _within(list(trainings), [], use)


def _within(waiting: list[Training], started: list[Training], use: Callable[[list[Training]], None]) -> None:
    if not waiting:
        if started:
            use(started)
        return
    first, *others = waiting

    inner = []

    def inside() -> None:
        inner.append(first)
        _within(others, [*started, first], use)
        inner.clear()

    try:
        with tempfile.TemporaryDirectory() as folder:
            first.build(folder)
            first.fit(inside)
    except MeasuredError:
        return
    except Exception as ex:
        if inner:
            raise  # It is not this training that failed.
        first.reason = reason(ex)
    if not first.entered:
        _within(others, started, use)


def reason(ex: Exception) -> str:
    """Return an error in one line."""
    return f"{type(ex).__name__}: {one_line(str(ex))}"
