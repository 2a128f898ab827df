"""Exit statuses and error messages of runs that end with an exception."""

import threading
import traceback

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tabattn.contract.errors import DataError, DivergenceError, message_of
from tabattn.contract.extras import missing
from tabattn.storage.checkpoints import restoring
from tabattn.storage.files import disk_problem, path_problem
from tabattn.training.lines import last_line
from tabattn.training.parser import debugging
from tabattn.training.processes import is_first, process_lost
from tabattn.training.signals import Interrupted, ending, lost_worker

STATUSES: dict[type[Exception], int] = {DataError: 3, DivergenceError: 4, MisconfigurationException: 2}
"""Exit status by exception, of exceptions whose message is for the user."""


def status_of(ex: BaseException, signalled: int | None) -> int:
    """Exit status of a run that ended with an exception; its message is printed to stderr.

    Args:
        ex: The exception, while it is being handled.
        signalled: Number of a signal received before, None if none.

    Returns:
        2 wrong use, 3 data or disk error, 4 diverged, or 128 plus the number of a signal.

    Raises:
        BaseException: ``ex`` itself, if it is a bug or tracebacks are requested.
    """
    if isinstance(ex, Interrupted):
        return ending(ex)
    if isinstance(ex, KeyboardInterrupt):
        return 130
    if isinstance(ex, SIGTERMException):
        return 143
    # Lightning exits with status 1 after an interrupt that it has handled.
    if isinstance(ex, SystemExit) and isinstance(ex.__context__, KeyboardInterrupt):
        return 130
    if not isinstance(ex, Exception):
        raise ex
    for kind, status in STATUSES.items():
        if isinstance(ex, kind):
            # All ranks detect a divergence in the same step.
            told = kind is not DivergenceError or is_first()
            return _report(ex, message_of(ex) if told else None, status)
    if signalled is not None:
        # The signal may have reached the workers of loaders too.
        return 128 + signalled
    if lost := process_lost(ex):
        return _report(ex, lost.text, lost.status)
    if package := missing(ex):
        return _report(ex, package, 2)
    if problem := _problem(ex):
        return _report(ex, problem, 3)
    raise ex


def constructor_error(ex: BaseException) -> BaseException:
    """Error of a constructor, which jsonargparse wraps in a ValueError about the type: the first of another module."""
    while ex.__cause__ is not None:
        *_, (frame, _) = traceback.walk_tb(ex.__traceback__)
        if not str(frame.f_globals.get("__name__")).startswith("jsonargparse"):
            break
        ex = ex.__cause__
    return ex


def thread_fault(fault: threading.ExceptHookArgs) -> None:
    """Exception hook of threads: ignores disk errors, which the main thread meets too."""
    if disk_problem(fault.exc_value) is None or debugging():
        threading.__excepthook__(fault)


def _problem(ex: Exception) -> str | None:
    """Describe in one line the disk, worker, path or checkpoint that caused an exception; None = none of these."""
    problem = disk_problem(ex) or lost_worker(ex) or path_problem(ex)
    if problem is None and restoring(ex):
        reason = " ".join(str(ex).split()) or type(ex).__name__
        problem = f"ckpt_path: the checkpoint does not fit this run: {reason}"
    return problem


def _report(ex: Exception, message: str | None, status: int) -> int:
    if debugging():
        raise ex
    if message is not None:
        last_line(f"error: {message}")
    return status
