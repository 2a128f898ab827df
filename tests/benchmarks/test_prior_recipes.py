"""Recipes of the prior at equal CPU time: every one trains, and begins with the predictions of its start."""

import csv
import itertools
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import prior_recipes
from benchmarks.prior_recipes import RECIPES, arguments, data_of, merged, runner_of, take_over
from tabattn.prior.weights import load_network

CELLS = str(Path(prior_recipes.__file__).parent / "weights" / "prior_cells.safetensors")
"""Weights of a network of cell tokens alone."""

SMALL = {"rows": [20, 24], "features": [2, 3], "classes": [2, 3], "batches": {"max_cells": 100}}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_prior_that_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior_recipes, "BASE", {"rows": [40, 60], "batches": {"max_cells": 1000}})
    recipe = {**RECIPES[name], "data": {**RECIPES[name].get("data", {}), "rows": [40, 60], "features": [2, 6]}}
    batch = data_of(recipe, 0).train_dataloader().dataset[0]
    assert torch.isfinite(batch.x[~batch.x.isnan()]).all()
    assert int(batch.y.max()) < 10


def test_recipes_change_what_they_name() -> None:
    plain, rough = data_of({}, 0), data_of(RECIPES["all"], 0)
    assert (plain.sizes.rows, rough.sizes.rows) == ([40, 800], [200, 1000])
    assert (plain.options.network.forests, rough.options.network.forests) == (0, 0.25)
    assert (plain.sizes.features, rough.sizes.features) == ([2, 30], [2, 60])
    assert plain.seeds != data_of({}, 1).seeds


@pytest.mark.parametrize("name", ["cells", "radial", "pooling", "radial, pooling"])
def test_networks_begin_with_the_predictions_of_the_start(name: str) -> None:
    runner = runner_of(name, arguments(["--start", CELLS]), 0)
    start = load_network(CELLS)
    x, y = torch.randn(2, 12, 5), torch.randint(0, 3, (2, 12))
    torch.testing.assert_close(runner.task.network.eval()(x, y, 8), start(x, y, 8), rtol=1e-4, atol=1e-4)
    own = sum(parameter.numel() for parameter in runner.task.network.parameters())
    assert (own > sum(parameter.numel() for parameter in start.parameters())) == (name != "cells")


def test_without_a_start_networks_begin_anew() -> None:
    one, other = (runner_of("cells", arguments([]), seed).task.network for seed in (0, 1))
    assert not torch.equal(one.cells.linear.weight, other.cells.linear.weight)


def test_tensors_of_another_shape_are_refused() -> None:
    network = nn.Linear(3, 2)
    take_over(network, {"weight": torch.ones(2, 3)})
    assert network.weight.tolist() == [[1, 1, 1], [1, 1, 1]]
    with pytest.raises(ValueError, match=r"weight must be of shape \(2, 4\), as in the start, got \(2, 3\)"):
        take_over(network, {"weight": torch.ones(2, 4)})
    with pytest.raises(ValueError, match=r"scale must be of shape \(1,\), as in the start, got none"):
        take_over(network, {"scale": torch.ones(1)})


def test_the_learning_rate_rises_and_falls_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that ticks once a step stands for the CPU time."""
    factors: list[float] = []

    def step(runner: Any, batch: Any, factor: float, clip: float) -> torch.Tensor:
        factors.append(factor)
        return torch.tensor(float(len(factors)))

    clock = itertools.count()
    monkeypatch.setattr(prior_recipes, "step", step)
    monkeypatch.setattr(time, "process_time", lambda: float(next(clock)))
    drawn: list[tuple[float, int]] = []
    batch = SimpleNamespace(x=torch.zeros(3, 1, 1))
    steps, tables, loss = prior_recipes.train(None, lambda share, step: drawn.append((share, step)) or batch, 201.0)
    assert (steps, tables) == (200, 600)
    assert max(factors) == pytest.approx(1, abs=0.06)
    assert factors[:3] == sorted(factors[:3])
    assert factors[0] < 0.15
    assert factors[-1] < 0.01
    assert loss == pytest.approx(150.5, abs=1)
    assert [step for _, step in drawn] == list(range(200))
    assert drawn[100][0] == pytest.approx(0.5, abs=0.01)


def test_tables_grow_over_the_first_half_of_a_training_from_nothing() -> None:
    data = data_of({}, 0)
    rows = [
        {prior_recipes.draw(data, growing, share, step).x.shape[1] for step in range(6)}
        for growing, share in ((True, 0.0), (True, 0.5), (False, 0.0))
    ]
    assert max(rows[0]) <= 80
    assert rows[1] == rows[2]
    assert max(rows[1]) > 200


def test_nested_mappings_are_merged() -> None:
    one: dict[str, Any] = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merged(one, {"a": {"y": 4}, "b": {"z": 5}}) == {"a": {"x": 1, "y": 4}, "b": {"z": 5}}
    assert one["a"]["y"] == 2


def test_a_recipe_is_trained_scored_and_not_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prior_recipes, "BASE", SMALL)
    monkeypatch.setattr(prior_recipes, "RECIPES", {"start": {"seconds": 0}, "one": {}})
    folder = tmp_path / "tables"
    folder.mkdir()
    rows = "\n".join(f"{i % 7},{(3 * i) % 5},{'ab'[i % 2]}" for i in range(30))
    (folder / "small.csv").write_text(f"p,q,label\n{rows}\n")
    (folder / "index.csv").write_text("name,file,target\nsmall,small.csv,label\n")
    given = ["--tables", str(folder), "--recipes", "start", "one", "--start", CELLS, "--seconds", "1"]
    for _ in range(2):
        prior_recipes.main([*given, "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.count("'recipe': 'one'") == 1
    with (tmp_path / "out" / "recipes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["recipe"] for line in lines] == ["start", "one"]
    assert [int(line["steps"]) > 0 for line in lines] == [False, True]
    assert all(0 <= float(line["auc"]) <= 1 for line in lines)
    assert 0 < float(lines[1]["loss"]) < 10
    with pytest.raises(SystemExit):
        prior_recipes.main([*given, "--seconds", "2", "--out", str(tmp_path / "out")])
    report = tmp_path / "out" / "recipes.csv"
    assert f"seconds must be 1.0, as in {report}, got 2.0" in capsys.readouterr().err
    table = (tmp_path / "out" / "recipes.md").read_text().splitlines()
    assert table[-2].startswith(f"| start | 250,698 | 0 | 0 | nan | {float(lines[0]['auc']):.4f} |")
    assert table[-1].startswith(f"| one | 250,698 | {lines[1]['steps']} | {lines[1]['tables']} | ")
    before, after = (load_network(tmp_path / "out" / f"{name}_1.ckpt") for name in ("start", "one"))
    assert torch.equal(before.norm.weight, load_network(CELLS).norm.weight)
    assert not torch.equal(before.norm.weight, after.norm.weight)


def test_the_summary_has_the_means_of_the_seeds_and_their_scores() -> None:
    kept = {"recipe": "a", "parameters": "1000", "loss": "1.5", "accuracy": "0.5", "log_loss": "0.7"}
    rows = [
        {**kept, "seed": "1", "steps": "10", "tables": "30", "auc": "0.8"},
        {**kept, "seed": "2", "steps": "20", "tables": "50", "auc": "0.9"},
    ]
    text = prior_recipes.summary(rows, arguments(["--seconds=60", f"--start={CELLS}"]))
    assert "Trainings from prior_cells.safetensors, of 60 s of CPU time each" in text
    assert "| a | 1,000 | 15 | 40 | 1.5000 | 0.8500 | 0.8000, 0.9000 | 0.5000 | 0.7000 |" in text
    for row in rows:
        del row["auc"], row["accuracy"], row["log_loss"]
    lines = prior_recipes.summary(rows, arguments([])).splitlines()
    assert lines[-3:] == [
        "| recipe | parameters | steps | tables | loss |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| a | 1,000 | 15 | 40 | 1.5000 |",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seconds=0"], "seconds must be greater than 0"),
        (["--lr=0"], "lr must be greater than 0"),
        (["--folds=1"], "folds must be at least 2"),
        (["--start=none.ckpt"], "start: there is no file none.ckpt"),
        (["--recipes", "none"], "invalid choice: 'none'"),
    ],
)
def test_bad_arguments_are_refused(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(given)
    assert message in capsys.readouterr().err
