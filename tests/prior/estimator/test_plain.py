"""Plain mode: the network reads the table as it is, so that it answers as the classifier of its original does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tabattn import TabularClassifier
from tabattn.storage.checksum import KEY
from tests.prior.estimator.tiny import LEGACY, tiny_network

PLAIN: dict[str, Any] = {"n_estimators": 1, "temperature": 1.0, "plain": True}


def columns(classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A table with large, constant and missing cells, whose columns are not exchangeable."""
    random = np.random.default_rng(0)
    x = random.standard_normal((30, 5)) * [1, 1000, 1, 0, 3] + [0, 1e4, 7, 2, 0]
    x[4, 2] = np.nan
    return x, np.arange(30) % classes


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_equals_the_network_on_the_raw_table(classes: int) -> None:
    x, y = columns(classes)
    network = tiny_network(**LEGACY)
    found = TabularClassifier(network, **PLAIN).fit(x[:20], y[:20]).predict_proba(x[20:])
    logits = network(torch.tensor(x, dtype=torch.float32)[None], torch.tensor(y[:20])[None], 20)[0, :, :classes]
    np.testing.assert_allclose(found, logits.softmax(-1).detach().numpy(), atol=1e-5)


def test_without_it_classes_are_renumbered_and_constant_columns_dropped() -> None:
    x, y = columns(2)
    varied = TabularClassifier(tiny_network(**LEGACY), n_estimators=1, temperature=1.0, random_state=1)
    plain = TabularClassifier(tiny_network(**LEGACY), **PLAIN)
    assert varied.fit(x, y).x_.shape == (30, 4)
    assert plain.fit(x, y).x_.shape == (30, 5)
    assert np.abs(plain.predict_proba(x) - varied.predict_proba(x)).max() > 0.01


def test_more_classes_than_outputs_are_grouped_in_their_order() -> None:
    x, _ = columns(2)
    y = np.arange(30) % 6
    found = TabularClassifier(tiny_network(**LEGACY), **PLAIN).fit(x, y).predict_proba(x)
    assert found.shape == (30, 6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)


def test_random_state_has_no_say() -> None:
    x, y = columns(3)
    first, second = (
        TabularClassifier(tiny_network(), random_state=seed, **PLAIN).fit(x, y).predict_proba(x) for seed in (0, 1)
    )
    np.testing.assert_array_equal(first, second)


def test_a_larger_table_is_sampled_by_random_state() -> None:
    x, y = columns(3)
    with pytest.warns(UserWarning, match="the table has 30 rows"):
        fitted = [
            TabularClassifier(tiny_network(), random_state=seed, max_context=12, **PLAIN).fit(x, y) for seed in (0, 1)
        ]
    assert np.abs(fitted[0].predict_proba(x) - fitted[1].predict_proba(x)).max() > 1e-4


def test_numbers_beyond_single_precision_stay_finite() -> None:
    x, y = columns(2)
    x[3, 0] = 1e300
    with pytest.warns(UserWarning, match="single precision"):
        model = TabularClassifier(tiny_network(), **PLAIN).fit(x, y)
    assert np.isfinite(model.predict_proba(x)).all()


def test_round_trip(tmp_path: Path) -> None:
    x, y = columns(3)
    model = TabularClassifier(tiny_network(**LEGACY), **PLAIN).fit(x, y)
    model.save(tmp_path / "a.safetensors")
    again = TabularClassifier.load(tmp_path / "a.safetensors")
    assert again.plain is True
    assert again.encoder_.keep_constant is True
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))


def test_a_file_from_before_the_option_is_not_plain(tmp_path: Path) -> None:
    x, y = columns(3)
    path = tmp_path / "a.safetensors"
    model = TabularClassifier(tiny_network()).fit(x, y)
    model.save(path)
    with safe_open(path, "pt") as file:
        text = file.metadata()
    header = json.loads(text["header"])
    del text[KEY], text["sealed"], header["parameters"]["plain"]
    save_file(load_file(path), path, text | {"header": json.dumps(header)})
    again = TabularClassifier.load(path)
    assert again.plain is False
    np.testing.assert_array_equal(again.predict_proba(x), model.predict_proba(x))
