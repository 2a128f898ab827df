"""Files of the estimators: round trips without pickle, in a clean process, and refusals in one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tabattn.attention import Local
from tabattn.reconstruction.estimator import NPTClassifier, NPTRegressor, TabularImputer
from tabattn.storage.checksum import KEY
from tests.reconstruction.estimator.tiny import classifier, imputer, mixed, regressor


def changed(path: Path, change: Any) -> None:
    """Rewrite the header of a file, or its tensors."""
    with safe_open(path, "pt") as file:
        text = file.metadata()
    tensors, header = load_file(path), json.loads(text["header"])
    del text[KEY], text["sealed"]
    change(header, tensors)
    save_file(tensors, path, text | {"header": json.dumps(header)})


def test_round_trips(tmp_path: Path) -> None:
    frame = mixed()
    path = tmp_path / "a.safetensors"
    labels = np.array(["no", "yes"] * 12)
    first = classifier(n_members=2, attention=Local, context_rows=10, random_state=np.int64(9)).fit(frame, labels)
    first.save(path)
    again: Any = NPTClassifier.load(path, "cpu")
    np.testing.assert_array_equal(again.predict_proba(frame), first.predict_proba(frame))
    assert list(again.predict(frame)) == list(first.predict(frame))
    assert list(again.feature_names_in_) == list(frame.columns)
    same = ("n_members", "context_rows", "max_steps", "random_state")
    assert {name: again.get_params()[name] for name in same} == {name: first.get_params()[name] for name in same}
    second = regressor().fit(frame, np.arange(24.0))
    second.save(path)
    np.testing.assert_array_equal(NPTRegressor.load(path).predict(frame), second.predict(frame))
    third = imputer().fit(frame.drop(columns="same"))
    third.save(path)
    pd.testing.assert_frame_equal(
        TabularImputer.load(path).transform(frame.drop(columns="same")), third.transform(frame.drop(columns="same"))
    )


def test_a_loaded_one_can_be_fitted_again(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    first = classifier(attention="Pooling").fit(x, y)
    first.save(tmp_path / "a.safetensors")
    again = NPTClassifier.load(tmp_path / "a.safetensors").fit(x, y)
    assert again.predict_proba(x).shape == (20, 2)
    sizes = [sum(p.numel() for p in each.members_.networks[0].parameters()) for each in (first, again)]
    assert sizes[0] == sizes[1]


@pytest.mark.slow
def test_a_clean_process_loads_it(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 2))
    model = regressor().fit(x, x[:, 0])
    model.save(tmp_path / "a.safetensors")
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys, numpy as np; from tabattn import NPTRegressor; "
        "np.save(sys.argv[3], NPTRegressor.load(sys.argv[1], 'cpu').predict(np.load(sys.argv[2])))"
    )
    paths = [str(tmp_path / name) for name in ("a.safetensors", "x.npy", "found.npy")]
    subprocess.run([sys.executable, "-c", program, *paths], cwd=Path(__file__).parents[3], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), model.predict(x), rtol=1e-6)


def test_entries_of_every_kind_come_back(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "mixed": pd.Series([1, "a", True, None] * 6, dtype=object),
            "same": pd.Series([pd.Timestamp("2020-05-01"), pd.NaT] * 12),
            "number": np.arange(24.0),
        }
    )
    model = imputer().fit(frame)
    model.save(tmp_path / "a.safetensors")
    again = TabularImputer.load(tmp_path / "a.safetensors")
    assert again.entries_ == model.entries_
    assert again.constants_ == {1: pd.Timestamp("2020-05-01")}
    pd.testing.assert_frame_equal(again.transform(frame), model.transform(frame))


def test_entries_that_cannot_be_written(tmp_path: Path) -> None:
    frame = pd.DataFrame({"bytes": pd.Series([b"a", b"b"] * 6), "number": np.arange(12.0)})
    model = imputer().fit(frame)
    with pytest.raises(ValueError, match="entries must be numbers, truth values, text or dates to be saved"):
        model.save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def poke(name: str, value: Any) -> Any:
    return lambda header, tensors: header.update({name: value})


CHANGES = {
    "estimator": (poke("estimator", "Other"), "holds no NPTClassifier, but 'Other'"),
    "attention": (poke("attention", {"class_path": "os.system"}), "names an attention that is not known"),
    "network": (poke("network", {"class_path": "os.system"}), "names a network that is not known"),
    "arguments": (lambda h, t: h["network"]["init_args"].update(layers=10**9), "layers is 1000000000"),
    "width": (lambda h, t: h["network"]["init_args"].update(dim=10**9), "dim is 1000000000"),
    "parameters": (lambda h, t: h["parameters"].pop("n_members"), "its parameters must be"),
    "types": (lambda h, t: h["parameters"].update(n_members="2"), "n_members must be of the type int, got '2'"),
    "bounds": (lambda h, t: h["parameters"].update(patience=0), "patience must be at least 1, got 0"),
    "members": (poke("members", [10**9, 1]), "members must be a whole number between 1 and 10000"),
    "labels": (lambda h, t: h["labels"].update(values=["no"]), "classes"),
    "three": (lambda h, t: h["labels"].update(values=["a", "no", "yes"]), "are not those of the encoder"),
    "columns": (lambda h, t: h["table"][0].update(std=0.0), "standard deviation is not finite, or not above 0"),
    "known": (lambda h, t: t.update(known=t["known"][:, :2].contiguous()), "its table has the shape"),
    "codes": (lambda h, t: t["known"].fill_(77.0), "holds codes of no category"),
    "context": (lambda h, t: t["context.0"].fill_(999), "a context names rows that its table does not have"),
    "weights": (lambda h, t: t.pop("member.0.embedding.mask"), "1 weights are missing, such as embedding.mask"),
    "nan": (lambda h, t: t["member.0.embedding.mask"].fill_(float("nan")), "weights are not finite"),
    "seed": (poke("seed", -1), "seed must be a whole number"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_does_not_fit_together_is_one_line(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.safetensors"
    classifier().fit(mixed(), np.array(["no", "yes"] * 12)).save(path)
    change, message = CHANGES[case]
    changed(path, change)
    with pytest.raises(ValueError, match=message) as error:
        NPTClassifier.load(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: h["entries"].pop(), "entries of categories"),
        (lambda h, t: h["entries"][3].__setitem__(0, [1]), "an entry must be"),
        (poke("constants", {}), "not constant, empty or kept"),
        (poke("empty", [0]), "not constant, empty or kept"),
        (poke("members", None), "it has no network"),
    ],
)
def test_damaged_imputers(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "a.safetensors"
    imputer().fit(mixed()).save(path)
    changed(path, change)
    with pytest.raises(ValueError, match=message):
        TabularImputer.load(path)


def test_no_file_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        NPTClassifier.load(tmp_path / "none.safetensors")
    path = tmp_path / "a.safetensors"
    regressor().fit(np.arange(12.0)[:, None], np.arange(12.0)).save(path)
    with pytest.raises(ValueError, match="holds no NPTClassifier, but 'NPTRegressor'"):
        NPTClassifier.load(path)
    from tabattn import TabularClassifier

    with pytest.raises(ValueError, match="its format is"):
        TabularClassifier.load(path)


@pytest.mark.parametrize(
    "names",
    [
        [10, 20, 30],
        [0.5, 1.5, 2.5],
        [("a", 1), ("a", 2), ("b", 1)],
        [pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02"), pd.Timestamp("2024-01-03")],
    ],
)
def test_column_names_that_are_no_text(tmp_path: Path, names: list[Any]) -> None:
    path = tmp_path / "a.safetensors"
    frame = pd.DataFrame(
        {0: np.arange(24.0), 1: ["x", "y", None] * 8, 2: np.arange(24) % 5},
    ).set_axis(pd.Index(names, tupleize_cols=True), axis=1)
    model = imputer().fit(frame)
    model.save(path)
    again = TabularImputer.load(path, "cpu")
    pd.testing.assert_frame_equal(again.transform(frame), model.transform(frame))
    assert list(again.cell_probabilities(frame)) == list(model.cell_probabilities(frame)) == names[1:2]
    again.save(path)
    again = TabularImputer.load(path, "cpu")
    assert list(again.cell_probabilities(frame)) == names[1:2]
    other = frame.set_axis(pd.Index([*names[:2], "other"], dtype=object), axis=1)
    with pytest.raises((TypeError, ValueError), match=r"columns must be those of fit|only supported if all"):
        again.transform(other)
    turned = frame.set_axis(frame.columns[[1, 0, 2]], axis=1)
    with pytest.raises(ValueError, match="columns must be those of fit, in the same order"):
        again.transform(turned)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([1, 2], "labels of columns must be 3 names"),
        ([1, 1, 2], "labels of columns must be different"),
        ([1, None, 2], "a column name must be text, a number, a date or a list of these, got 'None'"),
    ],
)
def test_column_names_of_a_file_are_checked(tmp_path: Path, wrong: list[Any], said: str) -> None:
    path = tmp_path / "a.safetensors"
    frame = pd.DataFrame(np.arange(60.0).reshape(20, 3) % 7, columns=[5, 6, 7])
    imputer().fit(frame).save(path)
    changed(path, lambda header, tensors: header.update(column_labels=wrong))
    with pytest.raises(ValueError, match=said):
        TabularImputer.load(path, "cpu")
    changed_back = tmp_path / "b.safetensors"
    imputer().fit(frame).save(changed_back)
    changed(changed_back, lambda header, tensors: header.pop("column_labels"))
    assert len(TabularImputer.load(changed_back, "cpu").transform(frame)) == 20


def test_column_names_of_another_type_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    frame = pd.DataFrame(np.arange(40.0).reshape(20, 2) % 7, columns=pd.period_range("2020", periods=2, freq="Y"))
    model = imputer().fit(frame)
    model.save(path)
    pd.testing.assert_frame_equal(TabularImputer.load(path, "cpu").transform(frame), model.transform(frame))
