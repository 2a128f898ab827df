"""An end of training by the clock that counts training alone."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.clock import Clock, Timing


class TimeBudget(Callback):
    """Stops a run after so many seconds of training steps: runs of equal budgets are compared at equal time.

    A step counts from the end of the one before, so with the loading of its batch; validation does not count, while
    ``Trainer(max_time=...)`` counts all. A resumed run goes on with what is left. With several processes rank zero
    decides.

    Args:
        seconds: Seconds of training.
        timing: ``wall``: seconds that pass; ``cpu``: seconds that the process computes, all its threads added up,
            which are fair on a busy machine; work of a GPU is none.
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
