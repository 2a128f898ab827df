"""Saved estimators: round trip, and one-line refusals of invalid files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tabattn import TabularClassifier
from tabattn.attention import Local
from tabattn.prior import weights
from tabattn.storage.checksum import KEY
from tests.prior.estimator.tiny import row_mechanism, tiny_network


@pytest.fixture
def frame() -> Any:
    return pd.DataFrame(
        {
            "number": np.linspace(-1, 1, 12),
            "word": ["a", "b", None, "d"] * 3,
            "constant": 1,
            "level": pd.Categorical(["low", "mid", "high"] * 4, categories=["low", "mid", "high"]),
        }
    )


def saved(path: Path, frame: pd.DataFrame, labels: Any = ("no", "yes"), **arguments: Any) -> TabularClassifier:
    model = TabularClassifier(tiny_network(), n_estimators=3, **arguments).fit(frame, np.array(labels * 6))
    model.save(path)
    return model


def changed(path: Path, change: Any) -> None:
    """Rewrite the header of a file, or its tensors."""
    with safe_open(path, "pt") as file:
        text = file.metadata()
    tensors, header = load_file(path), json.loads(text["header"])
    del text[KEY], text["sealed"]
    change(text, header, tensors)
    if "header" in text:
        text["header"] = json.dumps(header)
    save_file(tensors, path, text)


def test_round_trip(tmp_path: Path, frame: pd.DataFrame) -> None:
    model = saved(tmp_path / "a.safetensors", frame, temperature=0.7, chunk_rows=np.int64(5), random_state=np.int64(9))
    again = TabularClassifier.load(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))
    assert list(again.predict(frame)) == list(model.predict(frame))
    assert list(again.feature_names_in_) == list(frame.columns)
    expected = model.get_params() | {"model": None, "kernel_weight": 0.0}
    assert again.get_params() | {"model": None} == expected
    other = pd.DataFrame(frame.assign(word="never seen"))
    np.testing.assert_array_equal(again.predict_proba(other), model.predict_proba(other))
    with pytest.raises(ValueError, match="feature names should match"):
        again.predict(frame.rename(columns={"word": "text"}))


def test_loaded_can_be_fitted_again(tmp_path: Path, frame: pd.DataFrame) -> None:
    model = saved(tmp_path / "a.safetensors", frame)
    again = TabularClassifier.load(tmp_path / "a.safetensors").fit(frame, np.array(["no", "yes"] * 6))
    np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))


@pytest.mark.parametrize("labels", [(3, 1), (0.5e1, 2.0), (True, False), ("b", "a")])
def test_labels_keep_their_type(tmp_path: Path, frame: pd.DataFrame, labels: Any) -> None:
    model = saved(tmp_path / "a.safetensors", frame, labels)
    again = TabularClassifier.load(tmp_path / "a.safetensors")
    assert again.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(again.classes_, model.classes_)


def test_labels_that_cannot_be_written(tmp_path: Path, frame: pd.DataFrame) -> None:
    model = TabularClassifier(tiny_network()).fit(frame, np.array(["no", "yes"] * 6))
    model.classes_ = np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]")
    with pytest.raises(ValueError, match="labels must be numbers, truth values or text to be saved"):
        model.save(tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_one_class(tmp_path: Path, frame: pd.DataFrame) -> None:
    model = TabularClassifier(tiny_network()).fit(frame, ["same"] * 12)
    model.save(tmp_path / "a.safetensors")
    assert set(TabularClassifier.load(tmp_path / "a.safetensors").predict(frame)) == {"same"}


def test_attention_comes_back(tmp_path: Path, frame: pd.DataFrame) -> None:
    network = tiny_network(attention=lambda heads, dim: Local(heads, dim, window=3))
    model = TabularClassifier(network).fit(frame, np.array(["no", "yes"] * 6))
    model.save(tmp_path / "a.safetensors")
    again = TabularClassifier.load(tmp_path / "a.safetensors")
    assert row_mechanism(again.network_).arguments()["window"] == 3
    np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))


def test_size_is_that_of_weights_and_table(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).standard_normal((500, 10)), np.arange(500) % 2
    model = TabularClassifier(tiny_network()).fit(x, y)
    model.predict(x)
    model.save(tmp_path / "a.safetensors")
    network = sum(value.nbytes for value in model.network_.state_dict().values())
    assert (tmp_path / "a.safetensors").stat().st_size < network + 500 * 11 * 8 + 10_000


def test_as_a_model_it_is_its_network(tmp_path: Path, frame: pd.DataFrame) -> None:
    model = saved(tmp_path / "a.safetensors", frame)
    other = TabularClassifier(tmp_path / "a.safetensors", n_estimators=3).fit(frame, np.array(["no", "yes"] * 6))
    np.testing.assert_array_equal(other.predict_proba(frame), model.predict_proba(frame))


def network_with(**changes: Any) -> Any:
    return lambda text, header, tensors: header["network"]["init_args"].update(changes)


CHANGES = {
    "was not written by tabattn": lambda text, header, tensors: text.update(format="other"),
    "has version 2, this package reads version 1": lambda text, header, tensors: text.update(version="2"),
    "damaged header": lambda text, header, tensors: text.pop("header"),
    "describes no network": lambda text, header, tensors: header.pop("network"),
    "does not hold the network it describes": network_with(dim=16),
    "does not hold the network it describes.*unexpected": network_with(odd=1),
    "holds no estimator that fits together: 'labels'": lambda text, header, tensors: header.pop("labels"),
    "fits together.*labels are not those of 3 classes": lambda text, header, tensors: header["labels"].update(
        values=["a", "b", "c"]
    ),
    "fits together.*3 columns": lambda text, header, tensors: tensors.update(
        {"table.x": tensors["table.x"][:, :2].contiguous()}
    ),
    "the table has the types float32 and int64, not float64 and int64": lambda text, header, tensors: tensors.update(
        {"table.x": tensors["table.x"].float()}
    ),
    "the table has the types float64 and int32, not float64 and int64": lambda text, header, tensors: tensors.update(
        {"table.y": tensors["table.y"].int()}
    ),
    "fits together.*lists of categories": lambda text, header, tensors: header.update(kept=[0, 1]),
    "names an attention that is not known": network_with(attention={"class_path": "os.system", "init_args": {}}),
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_file_that_does_not_fit(tmp_path: Path, frame: pd.DataFrame, message: str) -> None:
    path = tmp_path / "a.safetensors"
    saved(path, frame)
    changed(path, CHANGES[message])
    with pytest.raises(ValueError, match=message) as caught:
        TabularClassifier.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_file(tmp_path: Path, frame: pd.DataFrame) -> None:
    path = tmp_path / "a.safetensors"
    saved(path, frame)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged: its content is not what its checksum says$"):
        TabularClassifier.load(path)
    path.write_text("not at all")
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        TabularClassifier.load(path)


def test_every_flipped_bit_is_noticed(tmp_path: Path, frame: pd.DataFrame) -> None:
    path = tmp_path / "a.safetensors"
    saved(path, frame)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(len(whole), size=60):
        raw = bytearray(whole)
        raw[place] ^= 1 << random.integers(8)
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"a\.safetensors "):
            TabularClassifier.load(path)


def test_a_file_without_a_checksum_still_loads(tmp_path: Path, frame: pd.DataFrame) -> None:
    path = tmp_path / "a.safetensors"
    model = saved(path, frame)
    changed(path, lambda text, header, tensors: None)
    again = TabularClassifier.load(path)
    np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))


def header_with(**changes: Any) -> Any:
    return lambda text, header, tensors: header.update(changes)


def parameters_with(**changes: Any) -> Any:
    return lambda text, header, tensors: header["parameters"].update(changes)


def tensor_with(name: str, make: Any) -> Any:
    return lambda text, header, tensors: tensors.update({name: make(tensors[name].clone())})


def labels_with(values: Any, dtype: str = "object") -> Any:
    return header_with(labels={"dtype": dtype, "values": values})


INCONSISTENT = {
    "layers is 10000000, and its weights allow": network_with(layers=10**7),
    "thinking_rows is 1000000000, and its weights allow": network_with(thinking_rows=10**9),
    "classes is 1000000000, and": network_with(classes=10**9),
    "hidden is 1000000000000, and": network_with(hidden=10**12),
    "feature_group is 1000000000, and": network_with(feature_group=10**9),
    "dim must be a multiple of heads, got dim 8 and heads 0": network_with(heads=0),
    "heads is 1000000000, and its weights allow": network_with(heads=10**9),
    "dim must be a whole number, got '8'": network_with(dim="8"),
    "layers must be a whole number, got True": network_with(layers=True),
    "hidden must be a whole number, got 12.0": network_with(hidden=12.0),
    "classes must be a whole number, got None": network_with(classes=None),
    "names a network that is not known": lambda text, header, tensors: header["network"].update(class_path=["x"]),
    "does not hold the network it describes": network_with(
        attention={"class_path": "tabattn.attention.Inducing", "init_args": {"points": 10**12}}
    ),
    "holds weights that are not finite, in decoder.2.bias": tensor_with(
        "network.decoder.2.bias", lambda value: value * np.nan
    ),
    "is of the type torch.int64": tensor_with("network.decoder.2.bias", lambda value: value.long()),
    "weight decoder.2.bias has the shape": tensor_with("network.decoder.2.bias", lambda value: value[:2].clone()),
    "n_estimators must be a whole number between 1 and 10000": parameters_with(n_estimators=10**9),
    "n_estimators must be a whole number .* got '3'": parameters_with(n_estimators="3"),
    "temperature must be": parameters_with(temperature=float("nan")),
    "temperature must be above 0": parameters_with(temperature=-1.0),
    "average must be one of": parameters_with(average="median"),
    "kernel_weight must be between 0 and 1, got 'stacked'": parameters_with(kernel_weight="stacked"),
    "kernel_weight must be a finite number, got 'most'": parameters_with(kernel_weight="most"),
    "cache must be true or false": parameters_with(cache="yes"),
    "plain must be true or false, got 1": parameters_with(plain=1),
    "average must be a text, got 1": parameters_with(average=1),
    "its parameters must be": parameters_with(odd=1),
    "its parameters must be .* got": header_with(parameters=["n_estimators"]),
    "labels must be different and in rising order": labels_with(["no", "no"]),
    "labels must be different and in rising order ": labels_with(["yes", "no"]),
    "labels cannot be kept in the type <U1": labels_with(["no", "yes"], "<U1"),
    "need more than 100000000 bytes": labels_with(["no", "yes"], "<U500000000"),
    "labels are not all of the type int64": labels_with([0.5, 1.5], "<i8"),
    "their type is datetime64": labels_with([1, 2], "<M8[s]"),
    "labels are not all of the type object": labels_with(["no", None]),
    "fits together": labels_with(None),
    "fits together: data type": labels_with(["no", "yes"], "odd"),
    "seed must be a whole number": header_with(seed=-1),
    "random_state must be a whole number": header_with(random_state=2**40),
    "columns must be a whole number": header_with(columns="4"),
    "names must be 4 texts": header_with(names=["a", "b"]),
    "a kept column must be a whole number between 0 and 3, got 9": header_with(kept=[0, 1, 9]),
    "kept columns must be different": header_with(kept=[0, 1, 1]),
    "codes of categories must be 0, 1, 2": header_with(categories=[None, {"a": 7, "b": 1, "d": 0}, None]),
    "holds codes of no category": header_with(categories=[None, {"a": 0}, {"low": 0, "mid": 1, "high": 2}]),
    "a column of kind 'category' does not fit": header_with(categories=[None, {"a": 0}, None]),
    "readings must be a list of 3 entries": header_with(readings=[]),
    "a reading must have the texts decimal, form, group, kind": header_with(readings=[None, None, None]),
    "a reading has signs that are not known": header_with(
        readings=[{"kind": "number", "decimal": "5", "group": "", "form": ""}] * 3
    ),
    "infinite cells": tensor_with("table.x", lambda value: value / 0),
}


@pytest.mark.parametrize("message", INCONSISTENT)
def test_a_header_that_does_not_fit_is_refused_before_anything_is_made(
    tmp_path: Path, frame: pd.DataFrame, message: str
) -> None:
    path = tmp_path / "a.safetensors"
    saved(path, frame)
    changed(path, INCONSISTENT[message])
    with pytest.raises(ValueError, match=message.rstrip()) as caught:
        TabularClassifier.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        TabularClassifier.load(tmp_path / "none.safetensors")


def test_a_network_is_no_estimator(packaged: Path) -> None:
    assert weights.load_network(packaged).classes == 4
    with pytest.raises(ValueError, match="holds no estimator that fits together"):
        TabularClassifier.load(packaged)
