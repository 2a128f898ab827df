"""Filters for warnings of libraries about one another that a user can do nothing about."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from jsonargparse._deprecated import JsonargparseDeprecationWarning
from lightning.pytorch.utilities import _pytree
from torch.utils import _pytree as torch_pytree

# Lightning makes leaves of pytrees by a class that torch has deprecated in favour of this function.
_pytree.__dict__["LeafSpec"] = getattr(torch_pytree, "treespec_leaf", torch_pytree.LeafSpec)


@contextmanager
def deprecated_parsing() -> Iterator[None]:
    """Context that silences Lightning's deprecation warnings of the parser's names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=JsonargparseDeprecationWarning)
        yield


@contextmanager
def ordinary_runs(resumes: bool) -> Iterator[None]:
    """Context that silences warnings of Lightning about ordinary runs.

    Args:
        resumes: Whether the run starts from a checkpoint.
    """
    with warnings.catch_warnings():
        # The run folder is locked, so the files in it are this run's own, from before it was resumed.
        warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
        # A checkpoint of averaged weights holds these as its weights: there is nothing else to restore.
        warnings.filterwarnings("ignore", message=r"You're using the WeightAveraging callback, but loading")
        if resumes:
            # A run resumed at the end of an epoch repeats the end of that epoch, but not its validation.
            warnings.filterwarnings("ignore", message=r".*could not find the monitored key")
            # The resumed run has its own folder; forget_foreign_paths tells what becomes of the earlier run's
            # checkpoints.
            warnings.filterwarnings("ignore", message=r"The dirpath has changed")
        yield


@contextmanager
def overridden_optimizers(default: bool) -> Iterator[None]:
    """Context that silences the warning that the command line's optimizer replaces the task's.

    Args:
        default: Whether the optimizer is the default of all tasks.
    """
    with warnings.catch_warnings():
        if default:
            warnings.filterwarnings("ignore", message=r".*configure_optimizers` will be overridden")
        yield


def without_advertisements() -> None:
    """Silence Lightning's advertisement of a service at the start of a run."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("💡 Tip: For seamless cloud")
