"""Conclusions of the report on one table."""

import pandas as pd

from benchmarks import adult
from benchmarks.adult_report import _noise, _reading


def results(**held_out: list[float]) -> pd.DataFrame:
    lines = [
        {"method": name, "seed": seed, "original": value, "held-out": value, "flipped": 1 - value}
        for name, values in held_out.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(lines)


def test_a_difference_is_tested_by_its_standard_deviation() -> None:
    found = results(Softmax=[0.7, 0.8, 0.9], Local=[0.72, 0.82, 0.921], Sparse=[0.9, 0.8, 0.72])
    text = _noise(found, adult.arguments(["t.csv", "--attentions", "Local", "Sparse"]))
    assert "That holds for Local;" in text
    assert "more than 2.48 times its standard deviation" in text
    one = results(Softmax=[0.7], Local=[0.9])
    assert "no difference" in _noise(one, adult.arguments(["t.csv", "--seeds=1", "--attentions", "Local"]))


def test_reading_and_memorisation_are_told_apart() -> None:
    found = results(Softmax=[0.8], Local=[0.8], Sparse=[0.55])
    found.loc[found.method == "Local", "flipped"] = 0.8
    text = _reading(found)
    assert "Softmax 100%, Local 0%." in text
    assert "are too low to tell: Sparse" in text
