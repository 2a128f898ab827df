"""Masks: which cells are hidden, randomised and scored, by stage and probability (the table of Kossen et al.)."""

import pytest
import torch

from datamodules.reconstruction.masks import mask_cells
from datamodules.reconstruction.options import MaskOptions
from datamodules.reconstruction.splits import TEST, TRAIN, VAL

ROLES = torch.tensor([TRAIN] * 600 + [VAL] * 200 + [TEST] * 200)
TARGETS = torch.tensor([False, False, True])
PRESENT = torch.ones(1000, 3, dtype=torch.bool)
PRESENT[::10, 0] = False
PRESENT[5::10, 2] = False


def masks(stage: str, *, told: bool = False, **options: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return mask_cells(PRESENT, TARGETS, ROLES, stage, MaskOptions(**options), source, told=told)


@pytest.mark.parametrize(
    ("stage", "probability", "hidden", "scored"),
    [
        ("train", 1.0, (TRAIN, VAL, TEST), (TRAIN,)),
        ("val", 1.0, (TRAIN, VAL, TEST), (VAL,)),
        ("test", 1.0, (TRAIN, VAL, TEST), (TEST,)),
        ("val", 0.5, (VAL, TEST), (VAL,)),
        ("test", 0.5, (VAL, TEST), (TEST,)),
    ],
)
def test_targets(stage: str, probability: float, hidden: tuple[int, ...], scored: tuple[int, ...]) -> None:
    found = masks(stage, targets=probability)
    present = PRESENT[:, 2]
    assert torch.equal(found.hidden[:, 2] & present, torch.isin(ROLES, torch.tensor(hidden)) & present)
    assert torch.equal(found.scored[:, 2], torch.isin(ROLES, torch.tensor(scored)) & present)
    assert not found.random[:, 2].any()


def test_targets_of_training_rows_are_drawn() -> None:
    found = masks("train", targets=0.3, randomised=0.2)
    train = PRESENT[:, 2] & (ROLES == TRAIN)
    drawn = found.scored[:, 2]
    assert not drawn[~train].any()
    assert abs(float(drawn[train].float().mean()) - 0.3) < 3 * (0.3 * 0.7 / 540) ** 0.5
    assert abs(float(found.random[:, 2][drawn].float().mean()) - 0.2) < 3 * (0.2 * 0.8 / 160) ** 0.5
    assert torch.equal(found.hidden[:, 2] & train, drawn & ~found.random[:, 2])
    assert found.hidden[ROLES > TRAIN, 2].all()


def test_features_are_drawn_in_training_alone() -> None:
    found = masks("train", features=0.15)
    features = PRESENT[:, :2]
    drawn = found.scored[:, :2]
    assert abs(float(drawn[features].float().mean()) - 0.15) < 3 * (0.15 * 0.85 / 1900) ** 0.5
    assert torch.equal(found.hidden[:, :2], ~features | (drawn & ~found.random[:, :2]))
    assert drawn[ROLES == TEST].any(), "features of every row that is present may be hidden"
    for stage in ("val", "test"):
        found = masks(stage)
        assert torch.equal(found.hidden[:, :2], ~features)
        assert not found.scored[:, :2].any()


def test_missing_cells_are_hidden_and_never_scored() -> None:
    for stage in ("train", "val", "test"):
        found = masks(stage, features=1.0, targets=1.0, randomised=0.5)
        assert found.hidden[~PRESENT].all()
        assert not found.scored[~PRESENT].any()
        assert not found.random[~PRESENT].any()


def test_labels_of_validation_rows_may_be_told_in_the_test() -> None:
    found = masks("test", told=True)
    assert not (found.hidden[:, 2] & PRESENT[:, 2])[ROLES == VAL].any()
    assert (masks("val", told=True).hidden[:, 2])[ROLES == VAL].all()


def test_a_training_batch_has_a_hidden_target() -> None:
    assert int(masks("train", targets=1e-9).scored[:, 2].sum()) == 1
    assert not masks("train", targets=0.0).scored[:, 2].any()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"features": 1.5}, "masks.features must be between 0 and 1, got 1.5"),
        ({"randomised": -0.1}, "masks.randomised must be between 0 and 1, got -0.1"),
        ({"features": 0.0, "targets": 0.0}, "nothing is to be learned"),
    ],
)
def test_bad_probabilities(bad: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MaskOptions(**bad)
