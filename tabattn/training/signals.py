"""Signals: a run saves its state, ends, and reports the signal by its exit status."""

import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from tabattn.contract.errors import chained
from tabattn.storage.checkpoints import LastCheckpoint
from tabattn.training.lines import last_line
from tabattn.training.processes import Siblings

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

ECHO = 0.25
"""Seconds in which a second signal is taken as a repetition: ``timeout`` and ``torchrun`` send theirs twice."""

WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: (\w+)|exited unexpectedly)")
"""Error message of torch about the loss of a loader's worker."""


MEMORY = "often memory ran out; fewer --data.num_workers need less"


class Interrupted(BaseException):
    """Exception that ends a run because of a signal.

    Args:
        number: Number of the signal.
        said: Whether a message has been printed.
    """

    def __init__(self, number: int, said: bool = False) -> None:
        super().__init__(f"{signal.Signals(number).name} received")
        self.number = number
        self.said = said


class Watch:
    """Signal handler: records the first signal, exits at once on the second.

    Outside of training, where there is no step to finish, the first signal raises ``Interrupted`` at once. Forked
    processes, such as workers of loaders, get the previous handlers.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.waits = False
        self._since = 0.0
        self._process: int | None = None
        self._before: dict[int, Any] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Context that installs the handler for a run and forgets signals of earlier runs."""
        self.number, self.waits, self._before = None, False, {}
        self.install()
        try:
            yield
        finally:
            self._restore()

    def install(self) -> None:
        """Install the handler; a SIGHUP that is ignored, as under ``nohup``, stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._process = os.getpid()
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if number == signal.SIGINT or handler != signal.SIG_IGN:
                self._before.setdefault(number, handler)
                signal.signal(number, self._handle)

    def _restore(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._process not in (None, os.getpid()):
            self._restore()
            os.kill(os.getpid(), number)
            return
        if self.number is not None:
            if time.monotonic() - self._since > ECHO:
                os.write(2, f"{signal.Signals(number).name}: stopped at once, nothing is saved\n".encode())
                os._exit(128 + number)
            return
        self.number, self._since = number, time.monotonic()
        if not self.waits:
            raise Interrupted(number)


class Interruption(Checkpoint):
    """Callback that saves ``last.ckpt`` and stops all ranks at the first step boundary after a signal.

    With one process a signal also stops a validation, which the resumed run repeats. Several ranks agree on a signal
    after each training step, so a validation is finished first. An exception ends the processes that this one started,
    so that none waits forever.

    Args:
        watch: Handler that receives the signals.
        last: Callback that writes ``last.ckpt``; None = no checkpoints.
        command: Returns the command line that resumes from a checkpoint.
        on_fault: Whether other exceptions save ``exception.ckpt``; with one process only.
    """

    def __init__(
        self, watch: Watch, last: LastCheckpoint | None, command: Callable[[str], str], on_fault: bool = False
    ) -> None:
        self.watch = watch
        self.last = last
        self.command = command
        self.on_fault = on_fault
        self.siblings = Siblings()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.watch.install()
        self.siblings.watch(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.siblings.stop()

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Replaces the handler that Lightning has installed by now, whose broadcast to other ranks can block.
        self.watch.install()

    on_validation_start = on_test_start = on_predict_start = on_sanity_check_start

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch.waits = True
        self.watch.install()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        number = self._agreed(trainer)
        loop = trainer.fit_loop.epoch_loop
        if number is None or loop._should_accumulate() or loop._is_training_done:
            return
        fetcher = trainer.fit_loop._data_fetcher
        if fetcher is not None and not loop._should_check_val_fx(fetcher):
            self._stop(trainer, number)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not self.watch.waits or trainer.world_size > 1 or self.watch.number is None:
            return
        # Reset the progress to the first batch, so that the resumed run repeats the whole validation.
        for part, done in (("ready", 1), ("started", 1), ("processed", 0), ("completed", 0)):
            progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            setattr(progress.current, part, done)
            setattr(progress.total, part, done)
        self._stop(trainer, self.watch.number)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        number = self._agreed(trainer)
        if number is not None:
            self._stop(trainer, number, saved=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch.waits = False

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the other ranks, or wait for them if they stop too; save ``exception.ckpt`` at a step boundary."""
        self.watch.waits = False
        together = isinstance(exception, Interrupted) and exception.said
        if lost := self.siblings.conclude(trainer, exception, together):
            exception.__cause__ = lost
        if self.last is None or isinstance(exception, Interrupted) or trainer.world_size > 1:
            return
        if lost_worker(exception) and _at_boundary(trainer):
            _say(f"saved {self.last.save(trainer)}; to go on: {self.command(self.last.best_model_path)}")
        elif self.on_fault and trainer.global_step > 0:
            trainer.save_checkpoint(os.path.join(str(self.last.dirpath), "exception.ckpt"))

    def _agreed(self, trainer: Trainer) -> int | None:
        """Signal that any rank has received; 0 = none."""
        number = self.watch.number or 0
        if trainer.world_size > 1:
            highest = torch.tensor(number, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
            number = int(highest)
        return number or None

    def _stop(self, trainer: Trainer, number: int, saved: bool = False) -> None:
        """Save ``last.ckpt``, print the command that resumes, and raise ``Interrupted``."""
        name = signal.Signals(number).name
        self.watch.number = number
        if self.last is None:
            _say(f"{name}: stopped at step {trainer.global_step}; nothing is saved, as checkpoints are turned off")
        else:
            path = self.last.best_model_path if saved else self.last.save(trainer)
            _say(f"{name}: saved {path} at step {trainer.global_step}; to go on: {self.command(path)}")
        raise Interrupted(number, said=True)


def lost_worker(ex: BaseException | None) -> str | None:
    """Describe the loss of a worker process of a loader in one line; None for any other exception."""
    for link in chained(ex, contexts=True):
        if isinstance(link, RuntimeError) and (found := WORKER.search(str(link))):
            how = f"was killed by signal {found[2]}" if found[2] else "ended unexpectedly"
            return f"loader worker {found[1]} {how}: {MEMORY}"
        # Or the connection breaks over which the worker sent a batch.
        if isinstance(link, (ConnectionError, EOFError, FileNotFoundError)) and any(
            Path(frame.f_code.co_filename).match("torch/utils/data/dataloader.py")
            for frame, _ in traceback.walk_tb(link.__traceback__)
        ):
            return f"a loader worker ended unexpectedly: {MEMORY}"
    return None


def take_over(trainer: Trainer) -> bool:
    """Turn off ``save_on_exception`` of Lightning's checkpoints, and return whether it was on.

    Lightning would save in the middle of a step, over the best checkpoint.
    """
    asked = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    asked = [each for each in asked if each.save_on_exception]
    for each in asked:
        each.save_on_exception = False
    return bool(asked)


def ending(ex: Interrupted) -> int:
    """Report an interruption, if not yet reported, and return the exit status."""
    if not ex.said:
        _say(f"{signal.Signals(ex.number).name}: stopped outside of training, there is nothing to save")
    return 128 + ex.number


def _at_boundary(trainer: Trainer) -> bool:
    """Whether training is at a step boundary: the last step is complete."""
    now: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    batch_done = now.ready == now.started == now.processed == now.completed
    return bool(
        trainer.training and batch_done and trainer.global_step > 0 and not trainer.fit_loop._should_accumulate()
    )


@rank_zero_only
def _say(text: str) -> None:
    last_line(text)
