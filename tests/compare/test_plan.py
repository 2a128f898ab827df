"""Plan of a comparison: budgets, mechanisms, cells and their names."""

import shutil
from pathlib import Path

import pytest

from tabattn.attention import MECHANISMS
from tabattn.compare import cells
from tabattn.compare.cells import choices, flags, fresh, key_of, training_seed
from tabattn.compare.plan import Settings, budget_of, cells_of, mechanisms, metric_of
from tabattn.storage.trusted import allowing
from tests.compare.tiny import FLAGS, settings


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [("500steps", "steps", 500), ("1step", "steps", 1), ("120s", "seconds", 120), ("1.5min", "seconds", 90)],
)
def test_budgets(text: str, kind: str, value: float) -> None:
    assert budget_of(text) == {"kind": kind, "value": value}


@pytest.mark.parametrize("text", ["", "500", "0steps", "1.5steps", "-3s", "s", "5 apples", "0s"])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--budget must be .* as 500steps, 120s or 2min"):
        budget_of(text)


def test_mechanisms() -> None:
    assert mechanisms("all") == tuple(MECHANISMS)
    assert mechanisms("Softmax, Local:window=8:dropout=0.1") == ("Softmax", "Local:window=8:dropout=0.1")
    assert mechanisms("my_package.Mine") == ("my_package.Mine",)
    with pytest.raises(ValueError, match=r"got 'Sofmax' \(did you mean Softmax\?\)"):
        mechanisms("Sofmax")
    for text in ("Softmax,Softmax", "Softmax,"):
        with pytest.raises(ValueError, match="--attention must"):
            mechanisms(text)


def test_options_and_lists() -> None:
    assert flags("model.attention", "Local:window=8") == (
        "Local",
        ["--model.attention=Local", "--model.attention.window=8"],
    )
    assert flags("data.table", "sklearn:iris") == ("sklearn:iris", ["--data.table=sklearn:iris"])
    assert choices("a,b(c,d),[1,2]") == ["a", "b(c,d)", "[1,2]"]


def test_cells_are_named_by_all_that_decides_their_results(tmp_path: Path) -> None:
    planned = cells_of(settings(("Softmax", "Local:window=2"), seeds=2))
    assert [(cell.label, cell.seed) for cell in planned] == [
        *(("Softmax", 0), ("Local:window=2", 0), ("Softmax", 1), ("Local:window=2", 1))
    ]
    assert len({cell.key for cell in planned}) == 4
    assert [cell.key for cell in cells_of(settings(("Softmax", "Local:window=2"), seeds=2))] == [
        cell.key for cell in planned
    ]
    for other in (settings(steps=7), settings(flags=(*FLAGS, "--data.seed=1"))):
        assert cells_of(other)[0].key != planned[0].key
    assert cells_of(settings(flags=(*FLAGS, "--run.root=elsewhere")))[0].key == planned[0].key


def test_a_seed_has_training_batches_of_its_own_and_the_same_test() -> None:
    def given(seed: int, *further: str) -> list[str]:
        words = cells_of(settings(("Softmax",), seeds=3, flags=(*FLAGS, *further)))[seed].arguments
        return [word for word in words if word.startswith("--data.seed")]

    assert [given(seed) for seed in range(3)] == [[], ["--data.seed=[0,1]"], ["--data.seed=[0,2]"]]
    assert given(1, "--data.seed=5") == ["--data.seed=5", "--data.seed=[5,6]"]
    assert given(2, "--data.seed=[5,9]") == ["--data.seed=[5,9]", "--data.seed=[5,11]"]
    varied = cells_of(settings(("3", "4"), vary="data.seed", seeds=2))
    assert [cell.arguments[-2] for cell in varied[2:]] == ["--data.seed=[3,4]", "--data.seed=[4,5]"]


def test_datamodules_without_a_second_seed_keep_their_batches() -> None:
    alike = {"data": {"class_path": "tests.helpers.MeanData", "init_args": {"seed": 3}}}
    with allowing(["tests"]):
        assert training_seed(alike, 1) == []
        assert not fresh(alike)
    assert training_seed({"data": None}, 1) == []
    assert training_seed({"data": {"class_path": "datamodules.SyntheticPairs"}}, 1) == []


@pytest.mark.parametrize("part", ["config", "code", "data", "seed", "budget"])
def test_each_part_of_a_name_counts(part: str) -> None:
    content = {"config": {"a": 1}, "code": "x", "data": "y", "seed": 0, "budget": {"kind": "steps", "value": 1}}
    other = {"config": {"a": 2}, "code": "z", "data": "z", "seed": 1, "budget": {"kind": "steps", "value": 2}}
    assert key_of(**content) != key_of(**{**content, part: other[part]})  # type: ignore[arg-type]


def test_a_changed_file_of_data_makes_other_cells(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    table = tmp_path / "my rooms.csv"
    shutil.copy(root / "examples" / "rooms.csv", table)
    given = settings(config=("pairs_table",), flags=(f"--data.path={table}",))
    before = cells_of(given)[0].key
    assert cells_of(given)[0].key == before
    with table.open("a") as file:
        file.write(table.read_text().splitlines()[-1] + "\n")
    assert cells_of(given)[0].key != before


def test_results_depend_on_no_file_of_the_report() -> None:
    ours = Path(cells.__file__).parent
    assert {path.name for path in ours.glob("*.py")} >= set(cells.OWN)


def test_a_mechanism_that_the_task_cannot_build_is_refused_with_its_reason() -> None:
    given = settings(("Softmax", "Local:window=0"))
    softmax, local = cells_of(given)
    assert softmax.refusal is None
    assert "window must be at least 1" in (local.refusal or "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (settings(flags=("--data.nonsense=1",)), "nonsense"),
        (settings(("Local:windw=2",)), "windw.*did you mean window"),
        (settings(config=("prjor",)), "did you mean prior"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(given: Settings, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        cells_of(given)
    assert "\n" not in str(caught.value)


def test_the_metric_and_its_direction() -> None:
    config = {"checkpoint": {"monitor": "val/ll", "mode": "max"}}
    assert metric_of(settings(), config) == {"metric": None, "mode": None}
    for metric, mode in (("test/ll", "max"), ("test/mse", "min"), ("test/accuracy", "max"), ("test/x:min", "min")):
        assert metric_of(settings(metric=metric), config) == {"metric": metric.partition(":")[0], "mode": mode}


def test_settings_are_added_to_those_of_a_folder(tmp_path: Path) -> None:
    earlier = settings(("Softmax",), seeds=3)
    both = settings(("Local", "Softmax"), seeds=2).joined(earlier, tmp_path)
    assert (both.choices, both.seeds) == (("Softmax", "Local"), 3)
    assert Settings.read(both.plain) == both
    with pytest.raises(ValueError, match="holds a comparison with --budget 6steps, not --budget 7steps"):
        settings(steps=7).joined(earlier, tmp_path)
    with pytest.raises(ValueError, match=r"holds a comparison with the flags .*, not no further flags"):
        settings(flags=()).joined(earlier, tmp_path)
