"""Help of the command line: lists of classes, and arguments by the flags that one types."""

import argparse
import collections.abc
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, get_args, get_origin

from jsonargparse import ArgumentParser
from jsonargparse._actions import _ActionConfigLoad, remove_actions
from jsonargparse._parameter_resolvers import get_signature_parameters
from lightning.pytorch.cli import ArgsType

from tabattn.storage import trusted
from tabattn.training.commands import program
from tabattn.training.parser import Parser, bases, concrete_classes, family, nearest

FLAG = re.compile(r"--(\w+(?:\.\w+)*)\.help(?:=(.*))?", re.DOTALL)
"""Help flag of an argument: ``--model.help``, ``--model.help=<class>``."""

DESCRIPTIONS = {
    "fit": "Train a task on data, validating on the way; --ckpt_path goes on with a stopped run.",
    "validate": "Score a trained network on the data that its checkpoints are chosen by.",
    "test": "Score a trained network on data that neither training nor the choice of a checkpoint has seen.",
    "predict": "Write what a trained network predicts into files.",
}
"""Descriptions of the subcommands."""

EXAMPLES = """\
Examples:
  {program} fit --config configs/prior.yaml --model.attention=Local --model.attention.window=8
  {program} test --config runs/prior/Local/version_0/config.yaml \\
      --ckpt_path runs/prior/Local/version_0/checkpoints/best.ckpt
  {program} fit --help                            every argument
  {program} fit --model.help                      the tasks there are
  {program} fit --model.help PriorClassification  the arguments of one
  {program} fit --data.help                       where data can come from
  {program} fit --model.attention.help            the attention mechanisms
  {program} fit --model.attention.help Local      the arguments of one
"""

COMMAND = """
A class is chosen by its name, and its arguments by further flags: --model=PriorClassification --model.network.dim=64
--model.attention=Local --model.attention.window=8. A configuration (--config) holds them as YAML; flags behind it
change single values. Ask for what there is by --model.help, --data.help and --model.attention.help, and for the
arguments of a class by its name behind these.
"""
"""Text of the help about arguments that all subcommands share."""


class Place(NamedTuple):
    """Argument that takes a class.

    Attributes:
        hint: Its type.
        skip: Arguments of the class that the program gives, not the user.
        owner: Name of the class that declares the argument; empty = the command itself.
    """

    hint: Any
    skip: set[str | int]
    owner: str = ""


def parser_kwargs() -> dict[str, Any]:
    """Keyword arguments of the parsers: descriptions of the program and its subcommands."""
    name = " ".join(program())
    commands = {each: {"description": text + "\n" + COMMAND} for each, text in DESCRIPTIONS.items()}
    return {"prog": name.removeprefix("python "), "epilog": EXAMPLES.format(program=name), **commands}


def needed(words: ArgsType, commands: Iterable[str]) -> list[str]:
    """Subcommands whose parsers need arguments: the one in the command line; none if the help only lists them.

    Args:
        words: A command line, or a nested dictionary.
        commands: All commands.
    """
    if not isinstance(words, list):
        return list(commands)
    if words and words[0] in commands:
        return words[:1]
    if asked(words):
        return ["fit"]
    # A configuration before the subcommand may hold arguments of several subcommands.
    return list(commands) if any(re.match(r"--config|-c", word) for word in words) else []


def asked(words: Sequence[str]) -> tuple[str, str | None] | None:
    """Find the first help flag of an argument, such as ``--model.attention.help=Local`` or without a class.

    Returns:
        The argument and the name of the class, which is None where none is named: ``("model.attention", "Local")``.
        None if no word is such a flag; ``--help`` alone is none.
    """
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if found := FLAG.fullmatch(word):
            named = found[2] if found[2] is not None else following
            return found[1], None if named.startswith("-") or not named else named
    return None


def answer(parser: ArgumentParser, words: Sequence[str], key: str, name: str | None) -> str | None:
    """Help text of an argument: its classes, or the arguments of one class.

    Args:
        parser: Parser of the command.
        words: The command line, which may name the class that has the argument.
        key: The argument, such as ``model.attention``.
        name: Name or class path; None = list all classes.

    Returns:
        The text; None if the parser has no such argument.

    Raises:
        ValueError: There is no such class.
    """
    places: dict[type, Place] = {}
    owners: dict[type, set[str]] = {}
    for place in _arguments(parser, words, key):
        for base in bases(place.hint):
            places.setdefault(base, place)
            owners.setdefault(base, set()).add(place.owner)
    if not places:
        return None
    if name is None and any(any(concrete_classes(each)) for each in places):
        return "\n\n".join(
            _listed(base, key, " and ".join(sorted(names)) if len(places) > 1 else None)
            for base, names in owners.items()
        )
    chosen = next(iter(places)) if name is None else _resolve(list(places), key, name)
    skip = next(place.skip for base, place in places.items() if issubclass(chosen, base))
    about = (inspect.getdoc(chosen) or "").partition("\nArgs:\n")[0].partition("\nAttributes:\n")[0]
    inner = Parser(add_help=False, usage=argparse.SUPPRESS, description=f"{chosen.__name__}: {about.strip()}")
    inner.add_class_arguments(chosen, key, fail_untyped=False, sub_configs=True, skip=skip)
    # The class is chosen already, so a file in its place is not offered.
    remove_actions(inner, (_ActionConfigLoad,))  # type: ignore[no-untyped-call]
    return inner.format_help().strip()


def _listed(base: type, key: str, owner: str | None) -> str:
    """One line for each class of a family: its name, and the first sentence of its docstring."""
    found = {each.__name__: each for each in concrete_classes(base)}
    width = max(map(len, found), default=0)
    title = family(base) + (f" of {owner}" if owner else "")
    lines = [f"  {name:{width}}  {_first_sentence(found[name])}".rstrip() for name in sorted(found)]
    return "\n".join([f"{title[0].upper()}{title[1:]}, for --{key}=<name>:", *lines, f"Arguments: --{key}.help <name>"])


def _first_sentence(cls: type) -> str:
    text = " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.) ", text, maxsplit=1)[0].replace("``", "")


def _resolve(families: list[type], key: str, name: str) -> type[Any]:
    """Find a class by its name or path."""
    known = {each.__name__: each for base in families for each in concrete_classes(base)}
    if name in known:
        return known[name]
    if "." not in name:
        listed = ", ".join(sorted(known))
        raise ValueError(f"{key}: no class is called {name!r}; there are: {listed}{nearest(name, known)}")
    problem: Exception | None = None
    for base in families:
        try:
            return trusted.resolve(name, base)
        except ValueError as ex:
            problem = problem or ex
    raise ValueError(f"{key}: {problem}") from problem


def _arguments(parser: ArgumentParser, words: Sequence[str], key: str) -> Iterator[Place]:
    """Yield where an argument occurs: in the parser, or in each class that its parent argument may take."""
    if (own := next((each for each in parser._actions if each.dest == key), None)) is not None:
        skip = set(getattr(own, "sub_add_kwargs", {}).get("skip", set()))
        yield Place(getattr(own, "_typehint", None), skip)
        return
    above, _, last = key.rpartition(".")
    for owner in _owners(parser, words, above) if above else ():
        for parameter in get_signature_parameters(owner, "__init__"):
            if parameter.name == last and any(bases(parameter.annotation)):
                count = _positional(parameter.annotation)
                declaring = next(each for each in owner.__mro__ if "__init__" in vars(each))
                yield Place(parameter.annotation, {count} if count else set(), declaring.__name__)


def _positional(hint: Any) -> int:
    """Number of positional arguments that the caller of a factory gives."""
    arguments = get_args(hint)
    if get_origin(hint) is collections.abc.Callable:
        return len(arguments[0]) if isinstance(arguments[0], list) else 0
    return max(map(_positional, arguments), default=0)


def _owners(parser: ArgumentParser, words: Sequence[str], key: str) -> Iterator[type]:
    """Classes that an argument may take: the one named in the command line, otherwise all."""
    named = [word.partition("=")[2] for word in words if word.startswith(f"--{key}=")]
    named += [after for word, after in pairwise(words) if word == f"--{key}"]
    for base in dict.fromkeys(base for place in _arguments(parser, words, key) for base in bases(place.hint)):
        each: type
        for each in concrete_classes(base):
            if not named or named[-1].rpartition(".")[2] == each.__name__:
                yield each
