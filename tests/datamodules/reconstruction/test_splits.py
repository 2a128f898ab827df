"""Splits: parts that partition the rows, as a pure function of the seed."""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

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


RARE = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3, 5], [110, 60, 25, 4, 1]))
"""Classes of 200 rows, of which two have fewer rows than there are folds, and one of these a single row."""


@pytest.mark.filterwarnings("ignore::tabattn.contract.errors.TableWarning")
def test_rare_classes_leave_the_others_stratified() -> None:
    roles = np.stack([roles_of(200, RARE, SplitOptions(fold=fold), 42) for fold in range(10)])
    assert ((roles == TEST).sum(0) == 1).all()
    assert [[int((each == role).sum()) for role in (TRAIN, VAL, TEST)] for each in roles] == [[140, 40, 20]] * 10
    for label, shares in ((0, (77, 22, 11)), (1, (42, 12, 6)), (2, (17.5, 5, 2.5))):
        counts = np.array([[(each[label == RARE] == role).sum() for role in (TRAIN, VAL, TEST)] for each in roles])
        assert np.abs(counts - shares).max() <= 1
    rare = (roles[:, RARE >= 3] == TEST).sum(1)
    assert rare.tolist().count(1) == 5  # no fold has two of the five rows
    assert (roles[3] == roles_of(200, RARE, SplitOptions(fold=3), 42)).all()
    assert any((roles[fold] != roles_of(200, RARE, SplitOptions(fold=fold), 43)).any() for fold in range(10))


@pytest.mark.parametrize("test_rows", [None, 50])
def test_rare_classes_are_said_once(test_rows: int | None) -> None:
    said = {None: "2 of 5 classes", 50: "1 of 5 classes"}[test_rows]
    classes = np.sort(RARE)[::-1].copy()  # the rare ones first, so that none is in the last rows
    if test_rows is not None:
        classes[-1] = 9  # is in the last rows alone, and so not split
    with pytest.warns(TableWarning) as told:
        roles = roles_of(200, classes, SplitOptions(test_rows=test_rows), 0)
    (message,) = (str(each.message) for each in told)
    assert message == (
        f"{said} are too rare to stratify by (the rarest: 1 rows): their rows are shared out as if of one class"
    )
    assert test_rows is None or roles[0] == TRAIN  # a single row is not validated


def test_a_split_without_a_frequent_class_is_not_stratified() -> None:
    classes = np.arange(30)
    with pytest.warns(TableWarning, match="30 of 30 classes .*the rarest: 1 rows.: their rows are") as told:
        roles = roles_of(30, classes, SplitOptions(), 0)
    assert len(told) == 1
    assert (roles == roles_of(30, None, SplitOptions(), 0)).all()


def test_the_largest_classes_are_strata_of_a_small_part() -> None:
    classes = np.repeat(np.arange(8), [40, 30, 5, 5, 5, 5, 5, 5])
    with pytest.warns(TableWarning, match="6 of 8 classes"):
        roles = roles_of(104, np.r_[classes, [0] * 4], SplitOptions(test_rows=4, val=0.02), 0)
    assert sorted(classes[roles[:100] == VAL]) in [[0, 1, each] for each in range(2, 8)]


def test_folds_of_frequent_classes_are_those_of_scikit_learn() -> None:
    expected = StratifiedKFold(10, shuffle=True, random_state=42).split(CLASSES, CLASSES)
    for fold, (_, rows) in enumerate(expected):
        assert np.flatnonzero(roles_of(200, CLASSES, SplitOptions(fold=fold), 42) == TEST).tolist() == rows.tolist()


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
