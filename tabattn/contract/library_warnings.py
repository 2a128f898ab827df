"""Warnings of libraries about one another, of which a user can do nothing: avoided here, and nowhere else."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from jsonargparse._deprecated import JsonargparseDeprecationWarning
from lightning.pytorch.utilities import _pytree
from torch.utils import _pytree as torch_pytree

# Lightning makes the leaves of its trees of loaders by a class that torch has deprecated for this function.
_pytree.__dict__["LeafSpec"] = getattr(torch_pytree, "treespec_leaf", torch_pytree.LeafSpec)


@contextmanager
def deprecated_parsing() -> Iterator[None]:
    """Leave out, inside, that Lightning calls the parser by names that it has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=JsonargparseDeprecationWarning)
        yield


@contextmanager
def ordinary_runs(resumes: bool) -> Iterator[None]:
    """Leave out, inside, what Lightning warns of where a run is in order.

    Args:
        resumes: Whether the run starts from a checkpoint.
    """
    with warnings.catch_warnings():
        # The folder is claimed: what is in it is the run's own, from before it was resumed.
        warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
        if resumes:
            # A run resumed at the end of an epoch repeats that end, but not its validation.
            warnings.filterwarnings("ignore", message=r".*could not find the monitored key")
            # It has a folder of its own; what becomes of the other's checkpoints is said by forget_foreign_paths.
            warnings.filterwarnings("ignore", message=r"The dirpath has changed")
        yield


@contextmanager
def overridden_optimizers(default: bool) -> Iterator[None]:
    """Leave out, inside, that the command line's optimizer takes the place of the task's.

    Args:
        default: Whether that is the default of all tasks.
    """
    with warnings.catch_warnings():
        if default:
            warnings.filterwarnings("ignore", message=r".*configure_optimizers` will be overridden")
        yield


def without_advertisements() -> None:
    """Leave out Lightning's advertisement of a service at the start of a run."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("💡 Tip: For seamless cloud")
