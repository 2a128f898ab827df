"""Variants of a trained task: its network with other mechanisms, which its weights fit or do not."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tabattn.compare.swap.mechanisms import Choice, label_of
from tabattn.compare.swap.trained import Trained, build, unmatched
from tabattn.contract.errors import one_line
from tabattn.storage.described import mechanism_named
from tabattn.task import Task
from tabattn.training.status import constructor_error

LISTED = 3
"""Most words in a reason."""


class Variant(NamedTuple):
    """Trained task with a mechanism.

    Attributes:
        choice: The mechanism; of the first variant, the trained one.
        task: The task; None = it cannot be measured.
        reason: Why it cannot, or what its weights lack.
        untrained: Names of its weights that the trained network does not have.
        dropped: Names of trained weights that it does not use.
    """

    choice: Choice
    task: Task | None
    reason: str | None = None
    untrained: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def places(trained: Trained, where: str) -> list[str]:
    """Arguments of the task whose mechanism is swapped.

    Args:
        trained: The task.
        where: ``rows``, ``columns`` or ``both``.

    Raises:
        ValueError: The task has no such attention.
    """
    found = trained.places()
    if not found:
        raise ValueError(f"{trained.where} is of {trained.kind.__name__}, which has no attention: nothing to swap")
    wanted = list(found) if where == "both" else [where]
    if missing := [each for each in wanted if each not in found]:
        raise ValueError(f"{trained.kind.__name__} has no attention between {missing[0]}: --where {', '.join(found)}")
    return [found[each] for each in wanted]


def original(trained: Trained, places: Sequence[str]) -> Variant:
    """Trained task as it is.

    Raises:
        ValueError: Its weights are not those of its network.
    """
    task = build(trained)
    untrained, dropped = unmatched(trained, task)
    if untrained or dropped:
        raise ValueError(f"{trained.where} does not hold the weights of its network: {_listed([*untrained, *dropped])}")
    return Variant(label_of(trained.arguments.get(places[0])), task)


def variant(trained: Trained, choice: Choice, places: Sequence[str], untrained: bool = False) -> Variant:
    """Trained task with another mechanism.

    Args:
        trained: The task.
        choice: The mechanism.
        places: Arguments of the task that it is given to.
        untrained: Whether to measure a mechanism whose own weights are as initialised.
    """
    try:
        task = build(trained, dict.fromkeys(places, choice.described))
    except (TypeError, ValueError) as ex:
        return Variant(choice, None, one_line(str(constructor_error(ex))))
    new, dropped = (tuple(names) for names in unmatched(trained, task))
    reason = f"needs training, of {_listed(new)}" if new else f"leaves out {_listed(dropped)}" if dropped else None
    return Variant(choice, task if untrained or not new else None, reason, new, dropped)


def swappable(trained: Trained, choices: Sequence[Choice], places: Sequence[str]) -> list[Choice]:
    """Mechanisms other than the trained one.

    Raises:
        ValueError: There is none.
    """
    own = [_made(trained.arguments.get(place)) for place in places]
    found = [choice for choice in choices if any(_made(choice.described) != each for each in own)]
    if not found:
        raise ValueError(f"{trained.where} was trained with {choices[0].label}: nothing to swap")
    return found


def _made(described: Any) -> tuple[str, dict[str, Any]]:
    """Name and all settings of a mechanism."""
    made: Any = mechanism_named(described, "the checkpoint")
    made = label_of(described) if made is None else made(1, 1)
    return (made.attention, made.options) if isinstance(made, Choice) else (type(made).__name__, made.arguments())


def _listed(names: Sequence[str]) -> str:
    """Last words of names of weights, each once."""
    words = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    more = f" and {len(words) - LISTED} more" if len(words) > LISTED else ""
    return ", ".join(words[:LISTED]) + more
