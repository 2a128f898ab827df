"""SequenceInferrer: laws of its predictions, scikit-learn's conventions, and what the task of pairs predicts."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from datamodules import TablePairs
from datamodules.pairs import SplitEvaluation
from tabattn.attention import MECHANISMS, Local, Pooling
from tabattn.contract.errors import TableWarning
from tabattn.optim.fitting import BestAverage, copied
from tabattn.pairs.estimator import InferrerSettings, LongOptions, SequenceInferrer, WindowOptions
from tabattn.pairs.estimator.observed import read
from tabattn.pairs.estimator.settings import DEFAULT_SETTINGS, default_settings
from tabattn.pairs.estimator.tasks import split_tasks, split_windows, windows_of
from tabattn.tasks import PairInference
from tests.pairs.estimator.cases import LONG, NETWORK, TINY, WIDE, inferrer, long, wide, window


@pytest.fixture(scope="module")
def fitted() -> SequenceInferrer:
    return inferrer().fit(wide())


@pytest.fixture(scope="module")
def of_long() -> SequenceInferrer:
    return inferrer(LONG, context=1).fit(long())


def test_the_order_of_rows_does_not_matter(of_long: SequenceInferrer) -> None:
    frame, order = long(), np.random.default_rng(2).permutation(len(long()))
    other = inferrer(LONG, context=1).fit(frame.iloc[order])
    assert all(
        torch.equal(*pair)
        for pair in zip(of_long.network_.state_dict().values(), other.network_.state_dict().values(), strict=True)
    )
    asked = np.flatnonzero(frame["reading"].isna())
    places = np.flatnonzero(frame["reading"].isna()[order])
    found, moved = (of_long.predict(part, return_std=True) for part in (frame, frame.iloc[order]))
    back = np.searchsorted(asked, order[places])
    for one, again in zip(found, moved, strict=True):
        np.testing.assert_array_equal(one[back], again)


def test_rows_of_a_wide_table_are_in_the_order_of_its_axis(fitted: SequenceInferrer) -> None:
    frame = window()
    turned = fitted.predict(frame.iloc[::-1])
    np.testing.assert_array_equal(turned[::-1], fitted.predict(frame))
    np.testing.assert_array_equal(inferrer().fit(wide().iloc[::-1]).predict(frame), fitted.predict(frame))


def test_a_wide_table_is_a_long_one(fitted: SequenceInferrer, tmp_path: Path) -> None:
    frame = window()
    stacked = frame.melt("hour", var_name="member", value_name="y").assign(task="only")
    fitted.save(tmp_path / "m.safetensors")
    other = SequenceInferrer.load(tmp_path / "m.safetensors").set_params(layout=LongOptions(x="hour", from_start=True))
    np.testing.assert_array_equal(other.predict(stacked), fitted.predict(frame))
    table = other.infer_table(stacked)
    assert table["x"].tolist() == frame["hour"][3:].tolist()
    assert set(table["task"]) == {"only"}
    assert set(table["member"]) == {"b"}


def test_what_is_not_observed_might_as_well_not_be_there(of_long: SequenceInferrer) -> None:
    frame = long(3)
    at = pd.DataFrame({"patient": ["p0", "p2"], "device": ["left", "right"], "hour": [2.5, 9.0]})
    np.testing.assert_array_equal(of_long.predict(frame, at), of_long.predict(frame.dropna(), at))


def test_tasks_do_not_depend_on_one_another(of_long: SequenceInferrer) -> None:
    frame = long(4, missing=0.3)
    whole = of_long.infer_table(frame)
    for name, part in frame.groupby("patient"):
        alone = of_long.infer_table(part)
        np.testing.assert_allclose(whole[whole["task"] == name]["mean"], alone["mean"], rtol=1e-5)


def test_locations_may_be_asked_for(fitted: SequenceInferrer) -> None:
    frame = window().dropna()
    at = [21.25, 22.0]
    both = fitted.infer_table(frame, at)
    assert both[["member", "x"]].to_numpy().tolist() == [["a", 21.25], ["b", 21.25], ["a", 22.0], ["b", 22.0]]
    named = pd.DataFrame({"member": ["b", "a"], "x": [22.0, 21.25]})
    np.testing.assert_array_equal(fitted.predict(frame, named), both["mean"][[3, 0]])


def test_predictions_are_those_of_the_task(fitted: SequenceInferrer) -> None:
    """The network by Lightning, on the windows of TablePairs: its densities, and its log-likelihood in data units."""
    shares = SplitEvaluation(shares=(0.6, 0.2, 0.2))
    data = TablePairs(wide(), ("a", "b"), context=2, windows=WIDE, batch_size=4, evaluation=shares)
    # The same units as those of the estimator, whose training part is larger.
    values = (wide()[["a", "b"]].to_numpy() - np.array(fitted.mean_)) / np.array(fitted.std_)
    data.tasks = data.tasks._replace(values=torch.from_numpy(values).float())
    task = PairInference(NETWORK, joint=False)
    task.network.load_state_dict(fitted.network_.state_dict())
    task.scaled = True
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        density = task.eval()(batch)
    first = int(batch.task[0])
    frame = wide().iloc[first : first + 8].reset_index(drop=True)
    frame.loc[2:, "b"] = np.nan
    means, stds = fitted.predict(frame, return_std=True)
    mean, std = fitted.mean_[1], fitted.std_[1]
    np.testing.assert_allclose(means, density.mean[0].double() * std + mean, rtol=1e-5)
    np.testing.assert_allclose(stds, density.stddev[0].double() * std, rtol=1e-4)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    (scores,) = Trainer(**quiet).test(task, data, verbose=False)
    assert fitted.score(wide().iloc[48:]) == pytest.approx(scores["test/ll"] - np.log(std), abs=1e-4)


def test_densities_quantiles_and_samples_agree(fitted: SequenceInferrer) -> None:
    frame = window()
    means, stds = fitted.predict(frame, return_std=True)
    bands = fitted.predict_quantiles(frame, quantiles=(0.1, 0.5, 0.9))
    assert bands.shape == (5, 3)
    np.testing.assert_allclose(bands[:, 1], means, atol=1e-5 * stds.max())
    np.testing.assert_allclose(bands[:, 2] - bands[:, 0], 2 * 1.2815516 * stds, rtol=1e-4)
    truth = means + stds
    expected = -0.5 - np.log(stds) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(fitted.log_density(frame, truth), expected, rtol=1e-6)
    drawn = fitted.sample(frame, n=400, random_state=0)
    np.testing.assert_array_equal(drawn, fitted.sample(frame, n=400, random_state=0))
    assert not np.isclose(drawn, fitted.sample(frame, n=400, random_state=1)).any()
    # The first target is drawn from its density given the context alone.
    assert abs(drawn[:, 0].mean() - means[0]) < 0.2 * stds[0]
    assert 0.85 < drawn[:, 0].std() / stds[0] < 1.15
    table = fitted.infer_table(frame, samples=2, random_state=3)
    assert list(table)[:5] == ["task", "member", "x", "mean", "std"]
    np.testing.assert_array_equal(table["sample_1"], fitted.sample(frame, n=2, random_state=3)[1])
    np.testing.assert_array_equal(table["quantile_0.5"], fitted.predict_quantiles(frame, quantiles=[0.5])[:, 0])


def test_dates_come_back_as_they_were() -> None:
    frame = wide().assign(hour=pd.date_range("2024-01-01", periods=60, freq="30min").astype(str))
    model = inferrer().fit(frame)
    asked = frame.iloc[:8].reset_index(drop=True)
    asked.loc[5:, "a"] = np.nan
    assert model.infer_table(asked)["x"].tolist() == asked["hour"][5:].tolist()
    numbers = wide().iloc[:8].reset_index(drop=True)
    numbers.loc[5:, "a"] = np.nan
    np.testing.assert_allclose(model.predict(asked), inferrer().fit(wide()).predict(numbers), rtol=1e-6)


def test_arrays_of_tasks_and_rows() -> None:
    frame = wide(64)[["a", "b"]].to_numpy()
    tasks = frame.reshape(8, 8, 2)
    model = inferrer(WindowOptions(length=8), context=3).fit(tasks)
    assert (model.names_, model.context_) == (("x0", "x1"), 3)
    asked = tasks.copy()
    asked[2:, 5:, 1] = np.nan
    means = model.predict(asked)
    assert means.shape == (18,)
    np.testing.assert_allclose(means[:3], model.predict(asked[2]), rtol=1e-5)
    assert np.isfinite(model.score(tasks))
    rows = long()[["patient", "device", "hour"]]
    values = long()["reading"]
    separate = inferrer(LONG, context=1).fit(rows, values)
    np.testing.assert_array_equal(separate.predict(long()), inferrer(LONG, context=1).fit(long()).predict(long()))
    whole = long(missing=0)
    assert separate.score(whole[list(rows)], whole["reading"]) == separate.score(whole)


def test_one_sequence_alone_and_several_at_once() -> None:
    alone = inferrer().fit(wide()[["hour", "b"]])
    frame = window()[["hour", "b"]]
    assert np.isfinite(alone.predict(frame)).all()
    assert np.isfinite(alone.score(wide()[["hour", "b"]]))
    several = inferrer(infer=("a", "b")).fit(wide())
    frame = window()
    frame.loc[4:, "a"] = np.nan
    assert several.predict(frame).shape == (9,)
    assert several.score(wide()) != inferrer().fit(wide()).score(wide())


def test_training_stops_by_steps_patience_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(inferrer(max_steps=6).fit(wide()).validation_scores_) == 3
    from tabattn.optim import fitting

    found: list[Any] = []
    monkeypatch.setattr(fitting, "Trainer", lambda **given: found.append(given) or Trainer(**given))
    short = inferrer(max_steps=10**6, max_time=1e-6).fit(wide())
    assert found[0]["max_time"].total_seconds() == pytest.approx(1e-6)
    assert len(short.validation_scores_) <= 1
    flat = InferrerSettings(network=NETWORK, batch_size=4, validate_every=1, decay=0.999999999)
    assert len(inferrer(settings=flat, max_steps=50, patience=2).fit(wide()).validation_scores_) < 50
    assert inferrer(validation_fraction=0).fit(wide()).validation_scores_ == []


def test_conventions_of_scikit_learn(fitted: SequenceInferrer) -> None:
    model = inferrer(infer="a")
    copied = clone(model).get_params()
    assert str(copied.pop("settings")) == str(model.settings)
    assert copied == {name: value for name, value in model.get_params().items() if name != "settings"}
    assert model.set_params(max_steps=9).max_steps == 9
    with pytest.raises(NotFittedError):
        model.predict(window())
    with pytest.raises(NotFittedError):
        model.score(wide())
    assert repr(SequenceInferrer("long", max_steps=5)) == "SequenceInferrer(layout='long', max_steps=5)"
    state = torch.random.get_rng_state()
    again = inferrer().fit(wide())
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(again.predict(window()), fitted.predict(window()))
    assert not np.allclose(inferrer(random_state=1).fit(wide()).predict(window()), fitted.predict(window()))


def test_a_fit_that_fails_leaves_the_one_before() -> None:
    model = inferrer().fit(wide())
    before = model.predict(window())
    kept = dict(vars(model))
    with pytest.raises(ValueError, match="must vary to be standardised"):
        model.set_params(random_state=1).fit(wide().assign(a=1.0, c=2.0))
    assert vars(model) == kept | {"random_state": 1}
    unfitted = inferrer()
    with pytest.raises(ValueError, match="must vary"):
        unfitted.fit(wide().assign(a=1.0))
    with pytest.raises(NotFittedError):
        unfitted.predict(window())
    np.testing.assert_array_equal(model.predict(window()), before)


def test_no_task_is_both_trained_and_validated_on() -> None:
    observed = read(long(), None, LONG, None)
    for share, held in ((0.25, 3), (0.5, 6), (0.0, 0)):
        parts = split_tasks(observed, share, 0)
        assert len(parts["val"]) == held
        assert sorted([*parts["train"].tolist(), *parts["val"].tolist()]) == list(range(12))
    windows = windows_of(wide(), None, WIDE, None)[1]
    parts = split_windows(windows, 0.2, WIDE)
    assert (int(parts["train"].max()) + 7, int(parts["val"].min())) == (47, 48)


def test_the_weights_of_the_best_validation_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger log-likelihoods are better: those of training are made to rise and then to fall."""
    kept: list[dict[str, torch.Tensor]] = []

    def scored(self: BestAverage, trainer: Any, task: Any) -> None:
        score = torch.tensor((1.0, 3.0, 2.0)[len(kept)])
        kept.append(copied(task.network))
        ended(self, SimpleNamespace(callback_metrics={"val/ll": score}, should_stop=False), task)

    ended = BestAverage.on_validation_end
    monkeypatch.setattr(BestAverage, "on_validation_end", scored)
    model = inferrer(max_steps=6).fit(wide())
    assert model.validation_scores_ == [1.0, 3.0, 2.0]
    for name, value in model.network_.state_dict().items():
        assert torch.equal(value, kept[1][name])


def test_what_is_left_out_is_said() -> None:
    frame = long(missing=0)
    frame = frame[(frame["patient"] != "p3") | (frame["device"] == "left")]
    with pytest.warns(TableWarning, match="1 of 12 tasks are left out, which lack known values of a sequence"):
        inferrer(LONG, context=1).fit(frame)


def test_locations_beyond_training_cause_a_warning(fitted: SequenceInferrer) -> None:
    with pytest.warns(UserWarning, match=r"x leaves the range of training \[0, 3.5\]: it goes from 0 to 9"):
        fitted.predict(window(), at=[29.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layout": "tall"}, "layout must be wide, long, WindowOptions or LongOptions, got 'tall'"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"patience": 1.5}, r"patience must be a whole number \(int\), at least 1, got 1.5"),
        ({"context": 8}, "context must be less than the window's 8 rows, got 8"),
        ({"max_time": 0}, "max_time must be None or a number of seconds above 0, got 0"),
        ({"validation_fraction": 1.0}, "validation_fraction must be at least 0 and below 1, got 1.0"),
        ({"validation_fraction": 0.1}, r"the validation part must hold 8 rows \(a window\), got 6 of 60"),
        ({"settings": {"clip": 1}}, "settings must be None or InferrerSettings, got {'clip': 1}"),
        ({"attention": "Sofmax"}, r"attention must be one of .* \(did you mean Softmax\?\)"),
        ({"infer": "c"}, "infer must be of the sequences, got 'c'; columns: a, b"),
        ({"layout": WindowOptions(x="when", length=8)}, "X has no column 'when'"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        inferrer(**changes).fit(wide())


@pytest.mark.parametrize(
    ("frame", "at", "words"),
    [
        (window().assign(c=1.0), None, "sequence 'c' was not fitted; sequences: a, b"),
        (window().rename(columns={"a": "aa"}), None, r"sequence 'aa' was not fitted \(did you mean 'a'\?\)"),
        (window().drop(columns="hour"), None, "X has no column 'hour'"),
        (window().dropna(), None, "nothing is asked for: X has no NaN"),
        (window(), pd.DataFrame({"member": ["c"], "x": [1.0]}), "sequence 'c' was not fitted"),
        (window().assign(a=np.nan, b=np.nan), None, "X must hold at least 1 observed value, got none"),
        (window().assign(a="high"), None, "column 'a' of X must hold finite numbers, got high, row 0"),
        (window().iloc[:0], None, "X holds 0 rows of 3 columns"),
    ],
)
def test_tables_that_will_not_do(fitted: SequenceInferrer, frame: pd.DataFrame, at: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fitted.predict(frame, at)


def test_long_tables_that_will_not_do(of_long: SequenceInferrer) -> None:
    frame = long()
    at = pd.DataFrame({"patient": ["p99"], "device": ["left"], "hour": [1.0]})
    with pytest.raises(ValueError, match="at names a task that X does not have: 'p99'"):
        of_long.predict(frame, at)
    with pytest.raises(ValueError, match="column 'device' must have no gaps, got one at row 0"):
        of_long.predict(frame.assign(device=[None, *frame["device"][1:]]))
    with pytest.raises(ValueError, match="an array of observations has the columns patient, device, hour, reading"):
        of_long.predict(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"y must have a value for each of the .* rows of X, got 3"):
        inferrer(LONG).fit(frame.drop(columns="reading"), [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="y must be None for a wide table"):
        inferrer().fit(wide(), wide()["a"])
    with pytest.raises(ValueError, match="training and validation must have at least 1 task each, got 1 and 0"):
        inferrer(LONG).fit(frame[frame["patient"] == "p0"])


@pytest.mark.parametrize("given", [(), 0.5, (0.5, 1.0), ("a",)])
def test_probabilities_out_of_bounds_are_refused(fitted: SequenceInferrer, given: Any) -> None:
    with pytest.raises(ValueError, match="quantiles must be"):
        fitted.predict_quantiles(window(), quantiles=given)
    with pytest.raises(ValueError, match="n must be a whole number, at least 1"):
        fitted.sample(window(), n=0)


def test_settings_are_checked() -> None:
    for changes, words in (
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"decay": 1.0}, "decay must be at least 0 and below 1, got 1.0"),
        ({"clip": 0.0}, "clip must be above 0, got 0.0"),
        ({"regimes": ("guess",)}, "regimes must be of .*, got guess"),
        ({"scheduled_sampling": 2.0}, "scheduled_sampling must be between 0 and 1, got 2.0"),
    ):
        with pytest.raises(ValueError, match=words):
            InferrerSettings(**changes)
    assert TINY.scored == "forecast"


def test_tasks_of_a_long_table_are_in_the_order_of_their_numbers() -> None:
    rows = pd.DataFrame({"task": [10, 9, "b", 9.5], "member": "a", "x": 0.0, "y": 1.0})
    assert read(rows, None, LongOptions(), None).labels == [9, 9.5, 10, "b"]


@pytest.mark.parametrize("name", list(MECHANISMS))
def test_default_settings_serve_every_mechanism(name: str) -> None:
    model = SequenceInferrer(WindowOptions(x="hour", length=8), attention=name, max_steps=1, device="cpu").fit(wide())
    network: Any = model.network_
    assert network.residual == "parallel"
    assert network.tokens.waves.waves == (16 if MECHANISMS[name].reads_keys else 0)
    assert np.isfinite(model.score(wide()))


def test_default_settings_are_those_of_a_partial_too() -> None:
    pooled = partial(partial(Pooling), window=3)
    assert default_settings(pooled).network.keywords["tokens"].distances == 0  # type: ignore[attr-defined]
    assert default_settings(partial(Local, window=3)) is DEFAULT_SETTINGS
