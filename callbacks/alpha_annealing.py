"""Annealing of entmax's alpha: a training that begins near softmax and becomes sparse."""

from typing import Any, NamedTuple

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer

from tabattn.attention import Mechanism
from tabattn.attention.entmax import Entmax


class _Annealed(NamedTuple):
    mechanism: Any
    alpha: float


class AlphaAnnealing(Callback):
    """Raises alpha of every entmax attention linearly while training, up to the mechanism's own alpha.

    For any task with mechanisms that have a fixed alpha, such as ``Entmax``. It acts in training steps alone:
    validation, test and checkpoints have the mechanism's own alpha throughout. Alpha is a function of the step, so a
    resumed run goes on exactly. Where alpha is learned there is nothing to anneal, and the run is refused.

    Args:
        start: Alpha of the first step; 1 is softmax.
        fraction: Share of all steps until the mechanism's own alpha is reached.
    """

    def __init__(self, start: float = 1.01, fraction: float = 0.5) -> None:
        if not 1.0 <= start <= 2.0:
            raise ValueError(f"start must be in [1, 2], got {start}")
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be in (0, 1], got {fraction}")
        self.start, self.fraction = start, fraction
        self.annealed: list[_Annealed] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the mechanisms of a training.

        Raises:
            MisconfigurationException: There is none with a fixed alpha, or its alpha is below the start.
        """
        if stage != "fit":
            return
        if any(isinstance(part, Entmax) and part.alpha_logit is not None for part in pl_module.modules()):
            raise MisconfigurationException("AlphaAnnealing needs a fixed alpha, and it is learned: drop learn_alpha")
        self.annealed = [
            _Annealed(part, alpha)
            for part in pl_module.modules()
            if isinstance(part, Mechanism) and isinstance(alpha := getattr(part, "fixed_alpha", None), float)
        ]
        if not self.annealed:
            raise MisconfigurationException(
                f"AlphaAnnealing needs a mechanism with an alpha, such as Entmax; {type(pl_module).__name__} has none"
            )
        if (least := min(each.alpha for each in self.annealed)) < self.start:
            raise MisconfigurationException(f"AlphaAnnealing starts at {self.start}, above the alpha {least} to reach")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the alpha of this step, and log it.

        Raises:
            MisconfigurationException: The run has no end.
        """
        total = trainer.estimated_stepping_batches
        if total == float("inf"):
            raise MisconfigurationException("AlphaAnnealing needs a number of steps: set trainer.max_steps")
        share = min(1.0, trainer.global_step / max(1.0, self.fraction * total))
        for mechanism, alpha in self.annealed:
            mechanism.fixed_alpha = self.start + share * (alpha - self.start)
        pl_module.log("train/alpha", self.annealed[0].mechanism.fixed_alpha)

    def on_train_batch_end(self, *_: Any) -> None:
        """Restore the mechanisms' own alpha."""
        for mechanism, alpha in self.annealed:
            mechanism.fixed_alpha = alpha
