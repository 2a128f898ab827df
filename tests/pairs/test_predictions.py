"""Prediction table of the pairs task."""

import torch

from tabattn.contract.batches import PairBatch
from tabattn.pairs.predictions import prediction_table
from tabattn.pairs.trajectories import Trajectories


def test_a_line_for_each_target_in_the_units_of_the_data() -> None:
    batch = PairBatch(
        x=torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]),
        y=torch.tensor([[0.5, 1.0, 2.0], [0.5, torch.nan, 3.0]]),
        member=torch.tensor([[0, 1, 1], [0, 1, 0]]),
        context=1,
        padding=torch.tensor([[False, False, True], [False, False, False]]),
        task=torch.tensor([40, 41]),
    )
    mean = torch.tensor([[1.5, 9.0], [2.5, 3.5]])
    found = prediction_table(
        Trajectories(batch, torch.zeros(2, 2), mean, mean[None] + 1, torch.stack([mean] * 5)),
        ("A", "B"),
        (10, 20),
        (2, 4),
    )
    assert found["task"] == [40, 41, 41]
    assert found["member"] == ["B", "B", "A"]
    assert found["x"] == [1, 1, 2]
    assert found["y"][::2] == [24, 16]
    assert found["y"][1] != found["y"][1]
    assert found["mean"] == [26, 30, 17]
    assert found["sample_0"] == [30, 34, 19]
    assert list(found)[-5:] == [f"quantile_{level}" for level in ("0.05", "0.25", "0.5", "0.75", "0.95")]


def test_without_names_and_units() -> None:
    batch = PairBatch(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([[0, 1]]), 1)
    found = prediction_table(
        Trajectories(batch, torch.zeros(1, 1), None, torch.ones(0, 1, 1), torch.ones(5, 1, 1)), None, None, None
    )
    assert (found["task"], found["member"], found["y"]) == ([0], [1], [1])
    assert "mean" not in found
    assert "sample_0" not in found
