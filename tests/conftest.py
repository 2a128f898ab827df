"""Fixtures of all tests: seed, one thread, and a restored process state."""

import logging
import os
import random
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import tabattn.contract.library_warnings  # noqa: F401  (spares plain Lightning modules a deprecation in torch too)
from tabattn.storage.trusted import VARIABLE

SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _seed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in SEED_VARIABLES:
        monkeypatch.setenv(variable, os.environ.get(variable, "0"))
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own classes may be named on a command line and in a checkpoint."""
    monkeypatch.setenv(VARIABLE, "tests")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Programs quieten Lightning for good; a test must not do so to the next."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
