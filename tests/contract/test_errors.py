"""Chains of exceptions: each one once, though causes and contexts may refer to one another in a circle."""

import pytest

from tabattn.contract.errors import chained
from tabattn.contract.extras import missing
from tabattn.training.processes import process_lost
from tabattn.training.signals import lost_worker


def chain() -> tuple[Exception, Exception, Exception]:
    """Return an exception, its cause, and what was being handled when the cause was raised."""
    outer, cause, context = ValueError("outer"), TypeError("cause"), KeyError("context")
    outer.__cause__, cause.__context__ = cause, context
    return outer, cause, context


def test_causes_come_first_and_contexts_where_asked() -> None:
    outer, cause, context = chain()
    assert list(chained(outer)) == [outer, cause]
    assert list(chained(outer, contexts=True)) == [outer, cause, context]
    other = OSError("handled")
    outer.__context__ = other
    assert list(chained(outer, contexts=True)) == [outer, cause, context, other]
    assert list(chained(None)) == []


@pytest.mark.parametrize("search", [chained, missing, process_lost, lost_worker])
def test_a_circle_ends(search: object) -> None:
    outer, cause, context = chain()
    cause.__cause__ = context.__cause__ = outer
    found = search(outer)  # type: ignore[operator]
    assert found is None or list(found) == [outer, cause]
    assert list(chained(outer, contexts=True)) == [outer, cause, context]
