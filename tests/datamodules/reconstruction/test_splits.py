"""Splits: parts that partition the rows, as a pure function of the seed."""

import numpy as np
import pytest

from datamodules.reconstruction.options import SplitOptions
from datamodules.reconstruction.splits import TEST, TRAIN, VAL, roles_of
from tabattn.contract.errors import TableWarning

CLASSES = np.repeat([0, 1], [120, 80])


@pytest.mark.parametrize("classes", [None, CLASSES])
def test_folds_partition_the_rows(classes: np.ndarray | None) -> None:
    roles = [roles_of(200, classes, SplitOptions(fold=fold), 42) for fold in range(10)]
    assert (np.sum([each == TEST for each in roles], axis=0) == 1).all()
    for each in roles:
        assert [int((each == role).sum()) for role in (TRAIN, VAL, TEST)] == [140, 40, 20]
    assert (roles[3] == roles_of(200, classes, SplitOptions(fold=3), 42)).all()
    assert (roles[3] != roles_of(200, classes, SplitOptions(fold=3), 43)).any()


def test_parts_have_the_shares_of_the_classes() -> None:
    roles = roles_of(200, CLASSES, SplitOptions(), 0)
    assert [int(CLASSES[roles == role].sum()) for role in (TRAIN, VAL, TEST)] == [56, 16, 8]


def test_the_last_rows_may_be_the_test_part() -> None:
    roles = roles_of(200, CLASSES, SplitOptions(test_rows=50, val=0.25), 0)
    assert (roles[150:] == TEST).all()
    assert (roles[:150] == VAL).sum() == 50


def test_a_class_too_rare_to_stratify_by_is_said() -> None:
    rare = np.repeat([0, 1], [195, 5])
    with pytest.warns(TableWarning, match="the rarest class has 5 rows: the split is not stratified"):
        roles = roles_of(200, rare, SplitOptions(), 0)
    assert (roles == TEST).sum() == 20


@pytest.mark.parametrize(
    ("options", "rows", "said"),
    [
        ({"folds": 1}, 10, "split.folds must be at least 2, got 1"),
        ({"fold": 10}, 10, r"split.fold must be below split.folds \(10\), got 10"),
        ({"val": 1.0}, 10, "split.val must be between 0 and 1, got 1.0"),
        ({"val": 0.95}, 20, "split.val must leave a row to train and to validate on of 18, got 0.95"),
        ({"folds": 30}, 20, r"split.folds must be at most the number of labelled rows \(20\), got 30"),
        ({"test_rows": 19}, 20, "split.test_rows must be at most 18 of 20 labelled rows, got 19"),
    ],
)
def test_bad_options(options: dict[str, float], rows: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        roles_of(rows, None, SplitOptions(**options), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_bad_seeds(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed must be at least 0 and below 2..32, got {seed}"):
        roles_of(20, None, SplitOptions(), seed)
