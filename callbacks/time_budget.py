"""Time budget of a training."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.clock import Clock, Timing


class TimeBudget(Callback):
    """Stops a run after a number of seconds of training steps, for comparisons at equal time.

    A step lasts from the end of the one before, loading included. Validation does not count, unlike in
    ``Trainer(max_time=...)``. A resumed run has what is left of the budget. Of several ranks, rank 0 decides.

    Args:
        seconds: Seconds of training.
        timing: ``wall``: elapsed time; ``cpu``: CPU time of the process, summed over threads, which is fair on a busy
            machine; the work of a GPU is not counted.
    """

    def __init__(self, seconds: float, timing: Timing = "wall") -> None:
        if not seconds > 0:
            raise ValueError(f"seconds must be greater than 0, got {seconds}")
        self.seconds = seconds
        self.clock = Clock(timing)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock.resume()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock.resume()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clock.resume()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.clock.lap(trainer.strategy.root_device)
        if trainer.strategy.broadcast(self.clock.seconds >= self.seconds):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.clock.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.clock = Clock(self.clock.timing, state_dict["seconds"])
