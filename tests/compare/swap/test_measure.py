"""Measurements of predictions: turns, agreement, limits."""

import json
import math

import pytest
import torch
from torch import nn

from tabattn.attention import Softmax
from tabattn.compare.swap.contexts import _too_long
from tabattn.compare.swap.limits import Limits
from tabattn.compare.swap.measure import Agreement, Meter, Timing, agreement, failure, in_turns, memory_limit
from tabattn.compare.swap.results import Row, Table, number, pareto, picture, text

CPU = torch.device("cpu")


class Counted:
    """Prediction that takes no time, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


def meter(first: float) -> tuple[Meter, Counted]:
    """Meter of a prediction whose warm-up took so many seconds."""
    run = Counted()
    made = Meter(nn.Linear(1, 1), run, CPU)
    made.seconds.append(first)
    made.attention.append(first / 2)
    return made, run


def test_the_warm_up_does_not_count_unless_it_is_the_only_one() -> None:
    (quick, runs), (slow, others) = meter(0.5), meter(30.0)
    in_turns({"quick": quick, "slow": slow}, rounds=3, budget=20.0)
    assert (runs.calls, others.calls) == (3, 0)
    assert quick.timing().rounds == 3
    assert quick.timing().seconds < 0.5
    assert slow.timing()[:5] == (30.0, 30.0, 30.0, 1, 0.5)


def test_quartiles_lie_within_what_was_measured() -> None:
    made, _ = meter(1.0)
    made.seconds, made.attention = [1.0, 2.0, 3.0, 4.0, 5.0], [0.5] * 5
    assert made.timing()[:5] == (3.0, 2.0, 4.0, 5, 0.5 / 3)


def test_attention_is_a_part_of_the_time() -> None:
    attention = Softmax(2, 8)
    q = torch.randn(1, 2, 200, 8)
    made = Meter(attention, lambda: attention(q, q, q), CPU)
    made.time()
    made.remember()
    assert 0.5 < made.timing().share <= 1.0
    assert made.timing().memory is not None


def test_memory_stays_unknown_where_measuring_it_takes_too_much() -> None:
    made = Meter(nn.Linear(1, 1), lambda: torch.empty(2**30), CPU)
    made.time()
    made.remember(100)
    assert made.timing().memory is None


def test_agreement_of_numbers_and_of_classes() -> None:
    own, other = torch.tensor([[0.7, 0.3], [0.2, 0.8]]), torch.tensor([[0.6, 0.4], [0.6, 0.4]])
    assert agreement([own], [other], classes=True) == pytest.approx((0.4, 0.25, 0.5))
    assert agreement({"a": own}, {"a": other}, classes=False)[2] is None
    missing = own.clone()
    missing[0, 0] = math.nan
    assert agreement(missing, other, classes=False).largest == pytest.approx(0.4)
    assert agreement([], [], classes=False) == (0.0, 0.0, None)


def test_more_memory_than_the_limit_is_a_reason() -> None:
    with pytest.raises(RuntimeError) as raised, memory_limit(100):
        torch.empty(2**30)
    assert failure(raised.value, 100) == "takes more than 100 MB of memory"
    assert failure(ValueError("no\nsuch"), 100) == "no such"
    with memory_limit(None):
        torch.empty(2**20)


def test_the_time_of_more_rows_is_foreseen() -> None:
    limits = Limits(longest=10.0)
    assert _too_long([], 1000, limits) is None
    assert _too_long([(1000, 1.0)], 2000, limits) is None
    assert _too_long([(1000, 1.0)], 4000, limits) == "may take up to 16 s (--longest 10)"
    # Linear by the two sizes before.
    assert _too_long([(1000, 1.0), (2000, 2.0)], 8000, limits) is None
    assert _too_long([(1000, 1.0), (2000, 4.0)], 4000, limits) == "may take up to 16 s (--longest 10)"


def row(label: str, score: float, seconds: float, trained: bool = False) -> Row:
    made = Row(label, label, None, trained, scores={"m": score, "m_oracle": 2.0})
    made.timing = Timing(seconds, seconds, seconds, 1, 0.5, 10.0)
    made.agreement = Agreement(0.1, 0.05, None)
    return made


@pytest.mark.parametrize(("mode", "lost"), [("max", 0.25), ("min", -0.25)])
def test_lost_and_gained(mode: str, lost: float) -> None:
    own, other = row("Softmax", 1.0, 4.0, trained=True), row("Local", 0.75, 1.0)
    for each in (own, other):
        each.compared(own, "m", mode)
    assert (own.lost, own.faster) == (0.0, 1.0)
    assert (other.lost, other.faster) == (lost, 4.0)


def table(*rows: Row) -> Table:
    machine = {"cpu": "a CPU", "gpu": None, "threads": 1}
    for each in rows:
        each.compared(rows[0], "m", "max")
    return Table("x.ckpt", "Task", ["attention"], "m", "max", "data", "CPU", machine, {}, list(rows))


def test_the_text_has_the_trained_mechanism_first_then_the_fastest() -> None:
    lines = text(table(row("Softmax", 1.0, 4.0, trained=True), row("B", 1.0, 3.0), row("A", 0.5, 1.0))).splitlines()
    first = [line.split()[0] for line in lines[4:8]]
    assert first == ["attention", "Softmax", "A", "B"]
    assert lines[-1] == "  m of the exact oracle: 2.0000"


def test_plain_values_and_back() -> None:
    made = table(row("Softmax", 1.0, 4.0, trained=True), Row("B", "B", 7, untrained=("x",), reason="needs training"))
    again = Table.of(json.loads(json.dumps(made.plain())))
    assert again == made
    assert made.rows[0].plain()["seconds"] == 4.0
    assert made.rows[1].plain()["largest"] is None


def test_the_pareto_front_leaves_out_what_is_beaten() -> None:
    made = table(row("S", 1.0, 4.0, trained=True), row("A", 0.5, 1.0), row("B", 0.4, 2.0), row("C", 0.9, 3.0))
    assert [each.label for each in pareto(made.rows)] == ["A", "C", "S"]
    assert picture(made).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(None, None, ""), (1234.5, None, "1230"), (0.0123456, None, "0.0123"), (-0.00001, 4, "0.0000"), (0.5, 2, "0.50")],
)
def test_numbers(value: float | None, digits: int | None, shown: str) -> None:
    assert number(value, digits) == shown
