"""Argument checks."""

from typing import Any

import pytest

from callbacks import AttentionMaps, QueryKeyRecorder, Weights
from datamodules import QueriesKeys
from tabattn.contract.checks import check_expression


@pytest.mark.parametrize(
    ("kind", "name"),
    [(AttentionMaps, "layers"), (QueryKeyRecorder, "layers"), (QueriesKeys, "layers"), (Weights, "matrices")],
)
def test_a_regular_expression_that_cannot_be_read_is_refused(kind: type[Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be a regular expression, got '\(a': missing \)"):
        kind(**{name: "(a"})
    kind(**{name: "(a)"})
    kind()


def test_no_expression_is_let_through() -> None:
    check_expression("layers", None)
