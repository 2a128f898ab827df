"""Report of the comparison with the original TNP-D: paired differences."""

import statistics

from benchmarks.tnp import table

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
