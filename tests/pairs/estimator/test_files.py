"""Files of SequenceInferrer: what is saved predicts the same, and what does not fit together is refused."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tabattn import SequenceInferrer
from tabattn.attention import Local
from tabattn.pairs.estimator.files import KIND
from tabattn.storage.weight_files import read, write
from tests.pairs.estimator.cases import LONG, NETWORK, TINY, inferrer, long, wide, window


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    inferrer(infer=("a", "b"), max_time=60.0).fit(wide()).save(path)
    return path


def test_a_loaded_estimator_is_the_saved_one(path: Path) -> None:
    fitted, loaded = inferrer(infer=("a", "b"), max_time=60.0).fit(wide()), SequenceInferrer.load(path, "cpu")
    np.testing.assert_array_equal(loaded.predict(window()), fitted.predict(window()))
    assert loaded.score(wide()) == fitted.score(wide())
    for name in ("layout", "infer", "context", "max_steps", "max_time", "patience", "validation_fraction"):
        assert getattr(loaded, name) == getattr(fitted, name)
    for name in ("names_", "mean_", "std_", "context_", "seed_", "validation_scores_", "level_", "unit_"):
        assert getattr(loaded, name) == getattr(fitted, name)
    assert loaded.attention == "Softmax"
    again = loaded.set_params(settings=fitted.settings).fit(wide())
    np.testing.assert_array_equal(again.predict(window()), fitted.predict(window()))
    assert path.stat().st_size < 100_000


def test_a_long_layout_and_a_mechanism_with_arguments_are_kept(tmp_path: Path) -> None:
    deeper = replace(TINY, network=partial(NETWORK, layers=2), scored="interp")
    fitted = inferrer(LONG, context=1, attention=partial(Local, window=3), settings=deeper).fit(long())
    fitted.save(tmp_path / "m.safetensors")
    loaded = SequenceInferrer.load(tmp_path / "m.safetensors", "cpu")
    assert (loaded.layout, loaded.settings.scored) == (LONG, "interp")  # type: ignore[union-attr]
    np.testing.assert_array_equal(loaded.predict(long()), fitted.predict(long()))
    assert loaded.attention.keywords == {"window": 3}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"estimator": "NPTRegressor"}, "holds no SequenceInferrer, but 'NPTRegressor'"),
        ({"names": ["a", "a"]}, "it has 2 sequences of 2, which do not fit its units"),
        ({"names": ["a", "b", "c"]}, "it has 3 sequences of 2, which do not fit its units"),
        ({"names": None}, "its sequences must have names"),
        ({"std": [1.0, 0.0]}, "std must be above 0 and finite, got '0.0'"),
        ({"mean": [1.0, float("inf")]}, "a mean is not finite"),
        ({"seed": -1}, "seed must be a whole number between 0 and"),
        ({"layout": {"kind": "wide", "options": {"length": 8}}}, "its layout must have length, stride, x, unit, cycle"),
        ({"layout": {"kind": "round", "options": {}}}, "fits together: 'round'"),
        ({"parameters": {"infer": None}}, "its parameters must be infer, context"),
        ({"settings": {"clip": 1.0}}, "its settings must be regimes, scored"),
        ({"init_from": "elsewhere"}, "init_from must be one of const.*, got 'elsewhere'"),
        ({"network": {"class_path": "os.system"}}, "names a network that is not known"),
        ({"level": "floor"}, "level must be one of sequence, task, got 'floor'"),
    ],
)
def test_what_does_not_fit_together_is_refused(path: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    tensors, header = read(path, KIND)
    write(tmp_path / "changed.safetensors", tensors, header | changes, KIND)
    with pytest.raises(ValueError, match=words):
        SequenceInferrer.load(tmp_path / "changed.safetensors")


def test_weights_that_are_not_those_of_the_network_are_refused(path: Path, tmp_path: Path) -> None:
    tensors, header = read(path, KIND)
    options = header["network"]["init_args"]
    for changed, words in (
        ({name: value for name, value in tensors.items() if "head" not in name}, "weights are missing"),
        (tensors | {"network.extent": torch.tensor([1.0, 1.0, 0.0, 1.0])}, r"whose axis is \[1, 1\]"),
        ({name: value * torch.nan for name, value in tensors.items()}, "weights that are not finite"),
    ):
        write(tmp_path / "changed.safetensors", changed, header, KIND)
        with pytest.raises(ValueError, match=words):
            SequenceInferrer.load(tmp_path / "changed.safetensors")
    huge = header | {"network": header["network"] | {"init_args": options | {"dim": 10**9}}}
    write(tmp_path / "changed.safetensors", tensors, huge, KIND)
    with pytest.raises(ValueError, match="dim is 1000000000, and its weights allow"):
        SequenceInferrer.load(tmp_path / "changed.safetensors")


def test_damaged_and_missing_files(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        SequenceInferrer.load(tmp_path / "none.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        SequenceInferrer.load(tmp_path / "bad.safetensors")
    assert json.dumps(read(path, KIND)[1])
