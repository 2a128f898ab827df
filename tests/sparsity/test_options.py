"""Options of learned graphs: names, the grid of a sweep, and what is refused."""

from typing import Any

import pytest

from tabattn.attention.graphs import PATTERNS
from tabattn.sparsity.options import KNOBS, ClusterOptions, GraphOptions, LossOptions, SweepOptions
from tabattn.sparsity.predicted import pattern_of


def test_names_tell_graphs_apart() -> None:
    assert GraphOptions().name == "kmeans"
    assert GraphOptions("kmeans", 16, 2, 3, 1).name == "kmeans 16 top 2 + window 3 + ends 1"
    variants = SweepOptions(windows=(0, 3)).variants()
    assert len({each.name for each in variants}) == len(variants)


def test_the_default_sweep_has_every_pattern_and_can_be_built() -> None:
    variants = SweepOptions().variants()
    assert {each.grouping for each in variants} == set(PATTERNS)
    assert set(KNOBS) & set(PATTERNS)
    for options in variants:
        assert pattern_of(options).knob == options.knob


def test_a_sweep_is_a_grid() -> None:
    sweep = SweepOptions({"kmeans": [1, 4], "window": [3], "fixed": [2]}, tops=(1, 2), windows=(0, 5), ends=2)
    assert [each.name for each in sweep.variants()] == [
        "kmeans 1 + ends 2",
        "kmeans 4 + ends 2",
        # Two clusters of one: there is no second.
        "kmeans 4 top 2 + ends 2",
        "kmeans 1 + window 5 + ends 2",
        "kmeans 4 + window 5 + ends 2",
        "kmeans 4 top 2 + window 5 + ends 2",
        "window 3 + ends 2",
        "fixed 2 + ends 2",
        "fixed 2 + window 5 + ends 2",
    ]


def test_a_sweep_over_blocks() -> None:
    sweep = SweepOptions({"fixed": [2], "pages": [1], "window/4": [3]}, blocks=(0, 8))
    names = [each.name for each in sweep.variants()]
    assert names == ["fixed 2", "fixed/8 2", "pages 1", "pages/8 1", "window/4 3"]
    assert GraphOptions("kmeans/8", 16, window=3).name == "kmeans/8 16 + window 3"
    with pytest.raises(ValueError, match=r"blocks\[1\] must be at least 0, got -1"):
        SweepOptions(blocks=(0, -1)).variants()


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (LossOptions, {"margin": 0.0}, "loss.margin must be above 0, got 0.0"),
        (LossOptions, {"distance": "cos"}, "loss.distance must be one of l2, min, got 'cos'"),
        (LossOptions, {"hinge": "sum"}, "loss.hinge must be one of query, pair, got 'sum'"),
        (ClusterOptions, {"clusters": 0}, "clusters.clusters must be at least 1, got 0"),
        (ClusterOptions, {"runs": 0}, "clusters.runs must be at least 1, got 0"),
        (ClusterOptions, {"tokens": 1}, "clusters.tokens must be at least 2, got 1"),
        (ClusterOptions, {"seed": -1}, "seed must be"),
        (GraphOptions, {"grouping": "kmean"}, r"grouping must be one of .*, got 'kmean' \(did you mean 'kmeans'\?\)"),
        (GraphOptions, {"grouping": "fixed/0"}, "the block of a grouping must be a whole number of at least 1"),
        (ClusterOptions, {"block": 0}, "clusters.block must be at least 1, got 0"),
        (GraphOptions, {"top": 0}, "top must be at least 1, got 0"),
        (GraphOptions, {"ends": 3}, "ends must be at most 2, got 3"),
    ],
)
def test_options_are_checked(make: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**options)


@pytest.mark.parametrize(
    ("graphs", "said"), [({}, "at least one pattern and knob"), ({"none": [1]}, "grouping must be one of")]
)
def test_a_sweep_of_nothing_known_is_refused(graphs: dict[str, list[float]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SweepOptions(graphs).variants()
