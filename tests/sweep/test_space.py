"""Search space: ranges, lists, and what is refused."""

import math
from typing import Any

import pytest

from tabattn.sweep.space import Parameter, arguments, parameter, unseen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optimizer.lr=log:1e-4..1e-1", Parameter("optimizer.lr", (), 1e-4, 0.1, None, log=True)),
        ("--model.dropout=0..0.5", Parameter("model.dropout", (), 0, 0.5, None)),
        ("x=-1.5..2:0.5", Parameter("x", (), -1.5, 2, 0.5)),
        ("model.layers=1..4", Parameter("model.layers", (), 1, 4, 1)),
        ("model.dim=16..64:16", Parameter("model.dim", (), 16, 64, 16)),
        ("model.dim=log:8..512", Parameter("model.dim", (), 8, 512, 1, log=True)),
        ("model.attention=Softmax, Local", Parameter("model.attention", ("Softmax", "Local"))),
        ("data.rows=[2,5],[2,10]", Parameter("data.rows", ("[2,5]", "[2,10]"))),
    ],
)
def test_values(text: str, expected: Parameter) -> None:
    assert parameter(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimizer.lr", "FLAG=VALUES"),
        ("=1,2", "FLAG=VALUES"),
        ("x=1", "at least two different values, got '1'"),
        ("x=1,1", "at least two different values"),
        ("x=1,,2", "at least two different values"),
        ("x=2..1", "must be below the high end, got '2..1'"),
        ("x=1..1", "must be below"),
        ("x=log:0..1", "positive ends"),
        ("x=log:1..2:0.1", "no step"),
        ("x=1..2:0", "greater than 0"),
        ("x=a..b", "a range is LOW..HIGH"),
        ("x=1..inf", "a range is LOW..HIGH"),
        ("x=log:1,2", "log: takes a range"),
    ],
)
def test_refusals(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        parameter(text)


def test_distributions() -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    made = [parameter(text).distribution() for text in ("x=1..4", "x=log:1..8", "x=0..1:0.25", "x=log:0.1..1", "x=1,2")]
    assert made == [
        IntDistribution(1, 4),
        IntDistribution(1, 8, log=True),
        FloatDistribution(0, 1, step=0.25),
        FloatDistribution(0.1, 1, log=True),
        CategoricalDistribution(("1", "2")),
    ]
    assert [parameter(text).size for text in ("x=1..4", "x=0..1:0.25", "x=1,2", "x=0..0.5")] == [4, 5, 2, math.inf]


def test_unseen_combinations_until_there_are_none() -> None:
    space = [parameter("x=1..3"), parameter("y=a,b")]
    seen: list[dict[str, Any]] = []
    while (values := unseen(space, seen, len(seen))) is not None:
        assert values not in seen
        seen.append(values)
    assert len(seen) == 6
    real = [parameter("x=log:1e-3..1"), parameter("y=0..1")]
    drawn = [unseen(real, [], seed) for seed in range(50)]
    assert drawn[0] == unseen(real, [], 0) != drawn[1]
    assert all(each is not None and 1e-3 <= each["x"] <= 1 and 0 <= each["y"] <= 1 for each in drawn)
    below = sum(each is not None and each["x"] < 0.1 for each in drawn)
    assert below > 20, "a logarithmic range is drawn on its scale"


def test_a_class_is_named_before_its_arguments() -> None:
    words = ["--config=a.yaml", "--model.attention.window=4", "--data.size=3"]
    values = {"model.attention.dropout": 0.1, "model.attention": "Local", "optimizer.lr": 0.5}
    assert arguments(words, values) == [
        "--config=a.yaml",
        "--model.attention=Local",
        "--model.attention.window=4",
        "--data.size=3",
        "--optimizer.lr=0.5",
        "--model.attention.dropout=0.1",
    ]
