"""Recall at equal sparsity, beside the figures of Sparsefinder's own programs."""

from pathlib import Path

import pytest

from benchmarks.sparsefinder_parity import PUBLISHED, independent, recall_at, report, trained


def test_interpolation_and_table() -> None:
    rows = [
        {"grouping": name, "sparsity": s, "recall": 1 - s} for name in ("fixed", "dynamic", "kmeans") for s in (0, 1)
    ]
    assert recall_at(rows, "fixed", 0.25) == 0.75
    assert "| kmeans | 0.874 | another draw | 0.405 | 0.126 |" in report(rows, 3)
    assert len(independent(items=3).found[1][1]) == 3


@pytest.mark.slow
def test_recall_is_no_less_than_that_of_the_published_programs(tmp_path: Path) -> None:
    rows = trained(tmp_path)
    for each in PUBLISHED:
        assert recall_at(rows, each.grouping, each.sparsity) >= each.recall, each
