"""Report of the comparison with the original TNP-D: paired differences."""

import statistics

import pytest
import torch

from benchmarks.reports import FOLDER
from benchmarks.tnp import arguments, table
from benchmarks.tnp_costs import costs
from benchmarks.tnp_networks import biased

SECONDS = {"original": 0.04, "ours": 0.02}


def cells(scores: dict[str, list[float]]) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(scores, SECONDS)]
    assert rows[0][3] == "minus original"
    return {name: rest for name, *rest in rows[2:]}


def test_differences_are_paired() -> None:
    scores = {"original": [0.1, 0.5, 0.9], "ours": [0.2, 0.7, 1.0], "oracle": [1.5]}
    error = statistics.stdev([0.1, 0.2, 0.1]) / 3**0.5
    assert cells(scores) == {
        "original": ["0.5000", "0.2309", "", "40.0", "1.00"],
        "ours": ["0.6333", "0.2333", f"+0.1333 ± {error:.4f}", "20.0", "2.00"],
        "oracle": ["1.5000", "", "+1.0000", "", ""],
    }


def test_one_seed_has_no_errors() -> None:
    assert cells({"original": [0.5], "ours": [0.25], "oracle": [1.5]}) == {
        "original": ["0.5000", "", "", "40.0", "1.00"],
        "ours": ["0.2500", "", "-0.2500", "20.0", "2.00"],
        "oracle": ["1.5000", "", "+1.0000", "", ""],
    }


def test_networks_with_and_without_distance_bias_start_equal() -> None:
    made = biased(3, torch.device("cpu"))
    states = [entrant.network.state_dict() for entrant in made.values()]
    assert [sum("amplitude" in name for name in state) for state in states] == [0, 0, 4, 4]
    for state in states[1:]:
        assert all(state[name].equal(weight) for name, weight in states[0].items())
    for entrant in made.values():
        assert entrant.rates == [group["lr"] for group in entrant.optimizer.param_groups]


def test_a_comparison_of_the_bias_has_a_report_of_its_own() -> None:
    assert arguments([]).out == FOLDER / "tnp.md"
    assert arguments(["--biased"]).out == FOLDER / "tnp_distances.md"
    assert arguments(["--biased", "--out", "own.md"]).out.name == "own.md"


def test_a_comparison_of_the_bias_has_no_other_entrants(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--biased", "--equal"])
    assert "--biased compares networks of this project alone, without --equal" in capsys.readouterr().err


def test_costs_have_a_time_and_a_size_for_each_number_of_points() -> None:
    head, _, *rows = (row.strip("| ").split(" | ") for row in costs(biased(0, torch.device("cpu")), 8, (6, 24)))
    assert head == ["network", "6 points, ms", "MiB", "24 points, ms", "MiB"]
    assert len(rows) == 4
    for row in rows:
        assert 0 < float(row[2]) < float(row[4])
    assert [float(row[4]) for row in rows] == sorted(float(row[4]) for row in rows)
