"""Files of regressors that do not fit together are refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tabattn import TabularRegressor
from tabattn.storage.checksum import KEY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(20, 2))
    TabularRegressor(kernel_weight=1).fit(x, x[:, 0]).save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def changed(path: Path, change: Any) -> None:
    """Rewrite the header of a file, or its tensors."""
    with safe_open(path, "pt") as file:
        text = file.metadata()
    tensors, header = load_file(path), json.loads(text["header"])
    del text[KEY], text["sealed"]
    change(header, tensors)
    save_file(tensors, path, text | {"header": json.dumps(header)})


CHANGES = {
    "targets must be numbers, got 'classes'": lambda header, tensors: header.update(targets="classes"),
    "fits together: 'targets'": lambda header, tensors: header.pop("targets"),
    "describes no network": lambda header, tensors: header.pop("network"),
    "describes no network ?": lambda header, tensors: header.update(network=[]),
    "targets are not all finite": lambda header, tensors: tensors["table.y"].fill_(float("nan")),
    r"at most 1e\+300": lambda header, tensors: tensors["table.y"].fill_(1e301),
    "types float32 and float64, not float64 and float64": lambda header, tensors: tensors.update(
        {"table.x": tensors["table.x"].float()}
    ),
    "types float64 and float32, not float64 and float64": lambda header, tensors: tensors.update(
        {"table.y": tensors["table.y"].float()}
    ),
    "shapes": lambda header, tensors: tensors.update({"table.y": tensors["table.y"][:3].clone()}),
    "kernel_weight must be between 0 and 1, or stacked, got 3": lambda header, tensors: header["parameters"].update(
        kernel_weight=3
    ),
    "its parameters must be n_estimators, temperature": lambda header, tensors: header["parameters"].update(plain=True),
    "its parameters must be n_est": lambda header, tensors: header["parameters"].pop("kernel_weight"),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_file_that_does_not_fit(path: Path, message: str) -> None:
    changed(path, CHANGES[message])
    with pytest.raises(ValueError, match=message) as caught:
        TabularRegressor.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_a_network_needs_the_kernel_member(path: Path) -> None:
    changed(path, lambda header, tensors: header["parameters"].update(kernel_weight=0.5))
    model = TabularRegressor.load(path)
    with pytest.raises(ValueError, match=r"kernel_weight must be 1 without a network, got 0\.5"):
        model.predict(np.zeros((1, 2)))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        TabularRegressor.load(tmp_path / "none.safetensors")
