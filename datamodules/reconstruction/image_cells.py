"""Datamodule of images as rows of a table, whose patches and classes are to be reconstructed."""

from lightning.pytorch.utilities import rank_zero_info

from datamodules.counter import Seed
from datamodules.reconstruction.loaders import CellLoaders
from datamodules.reconstruction.options import (
    DEFAULT_CONTEXT,
    DEFAULT_MASKS,
    DEFAULT_SPLIT,
    ContextOptions,
    MaskOptions,
    SplitOptions,
)
from tabattn.contract.checks import check_least


class ImageCells(CellLoaders):
    """Images as rows of a table, whose columns are pixels, in patches that are hidden together, and the class.

    For ``PatchTransformer``, to which a patch is a token: Kossen et al. 2021 (arXiv 2106.02584), appendix C.

    Args:
        images: ``digits`` (1797 images of scikit-learn, 8 x 8), ``mnist`` or ``cifar10`` (by torchvision, the extra
            ``images``; the last 10,000 are the official test images), or an .npz file with the arrays ``images``,
            (images, height, width) with or without channels behind, and ``labels``.
        patch: Height and width of a patch in pixels.
        split: Options of the split into training, validation and test images.
        masks: Options of hidden cells: patches and classes.
        context: Options of the images that are seen together.
        root: Folder into which torchvision downloads.
        steps_per_epoch: Batches per epoch (on each device); validation may run at its end.
        seed: Seed of the split, the batches and the hidden cells; of two, the second is that of the training batches
            alone.
        num_workers: Worker processes of the training loader; 0 = hide cells in the training process.
    """

    def __init__(
        self,
        images: str = "digits",
        patch: int = 2,
        *,
        split: SplitOptions = DEFAULT_SPLIT,
        masks: MaskOptions = DEFAULT_MASKS,
        context: ContextOptions = DEFAULT_CONTEXT,
        root: str = "data",
        steps_per_epoch: int = 50,
        seed: Seed = 42,
        num_workers: int = 0,
    ) -> None:
        from datamodules.reconstruction.images import image_cells, read_images

        super().__init__(steps_per_epoch, seed, num_workers)
        check_least(patch=(patch, 1))
        found = read_images(images, root)
        self.cells = image_cells(found, patch, split, masks, context, self.seeds.scored)
        self.duplicated = None
        counts = self.cells.roles.bincount(minlength=3).tolist()
        rank_zero_info(
            f"{found.name}: {len(found.classes)} classes; "
            f"{counts[0]} images train, {counts[1]} validate, {counts[2]} test"
        )
