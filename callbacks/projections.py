"""Learned projections of Sparsefinder, put into a network."""

from pathlib import Path

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from tabattn.storage.projection_loading import load_projections


class Projections(Callback):
    """Puts learned projections and centroids into the Sparsefinder mechanisms of a network, by their module paths.

    Weights of the network come from ``--model.init_from``, such as those of a training with Entmax; projections and
    centroids of that file are not used.

    Args:
        path: Checkpoint of ``SparsefinderProjections``, or a file of projections (.safetensors).
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load the projections.

        Raises:
            MisconfigurationException: There is no such file, or it does not fit the network.
            DataError: It is damaged, or holds something else.
        """
        try:
            filled = load_projections(pl_module, self.path)
        except ValueError as ex:
            raise MisconfigurationException(f"Projections: {ex}") from ex
        # A task leaves these as they are when it loads the weights of init_from.
        parts = tuple(f"{path}.{part}." for path in filled for part in ("projection", "pattern"))
        pl_module.filled = parts  # type: ignore[assignment]
        rank_zero_info(f"projections of {len(filled)} layers from {self.path}")
