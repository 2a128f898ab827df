"""Fits among threads, interrupts, and whatever modes and defaults of torch the caller has set."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch

from tabattn.optim.fitting import BestAverage
from tabattn.reconstruction.estimator import CLASSIFICATION, NPTClassifier, NPTRegressor
from tests.reconstruction.estimator.tiny import regressor

X = np.random.default_rng(0).normal(size=(30, 3))
Y = X[:, 0]


def test_threads_do_not_disturb_one_another() -> None:
    expected = [regressor(random_state=seed).fit(X, Y).predict(X) for seed in range(2)]
    found: list[Any] = [None] * 4

    def fit(place: int) -> None:
        found[place] = regressor(random_state=place % 2).fit(X, Y).predict(X)

    threads = [threading.Thread(target=fit, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, got in enumerate(found):
        np.testing.assert_array_equal(got, expected[place % 2])


@pytest.fixture
def plain() -> Any:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.mark.parametrize(
    "change",
    [
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_default_device("meta"),
    ],
    ids=["dtype", "device"],
)
def test_defaults_of_torch(plain: Any, change: Callable[[], None]) -> None:
    expected = regressor().fit(X, Y).predict_quantiles(X)
    change()
    np.testing.assert_array_equal(regressor().fit(X, Y).predict_quantiles(X), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_of_torch(mode: Callable[[], AbstractContextManager[Any]]) -> None:
    expected = regressor().fit(X, Y).predict(X)
    with mode():
        np.testing.assert_array_equal(regressor().fit(X, Y).predict(X), expected)


def test_an_interrupt_ends_the_fit_and_not_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BestAverage, "on_train_batch_end", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        model = regressor()
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert not hasattr(model, "members_")


def test_a_loaded_classifier_has_the_settings_of_its_class(tmp_path: Any) -> None:
    model = NPTClassifier(max_steps=1, device="cpu").fit(X, (Y > 0).astype(int))
    model.save(tmp_path / "a.safetensors")
    settings = NPTClassifier.load(tmp_path / "a.safetensors").settings
    assert settings is not None
    assert settings.hidden == CLASSIFICATION.hidden


@pytest.mark.parametrize("unit", ["M8[us]", "m8[s]"])
def test_labels_that_are_dates_or_durations_are_refused(unit: str) -> None:
    with pytest.raises(ValueError, match=r"y must hold numbers, got .*\[.*\]: convert them, such as to days"):
        NPTRegressor().fit(X, np.arange(30).astype(unit))
