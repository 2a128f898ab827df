"""Argument parser: no abbreviated flags, and one-line errors with the nearest match."""

import collections.abc
import difflib
import inspect
import logging
import os
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, get_args, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tabattn.attention import Mechanism
from tabattn.attention.choice import called
from tabattn.contract.errors import chained
from tabattn.contract.extras import remedy
from tabattn.storage import earlier, trusted

FAMILIES: dict[type, str] = {
    Mechanism: "attention mechanisms",
    LightningModule: "tasks",
    LightningDataModule: "datamodules",
    Callback: "callbacks",
    Optimizer: "optimizers",
    LRScheduler: "schedules",
}
"""Plural nouns for the subclasses of a type, in messages."""

DESCRIPTION = f"""\
Train, validate, test and apply models whose attention is chosen by a flag. Classes of a package of your own are
named by their dotted paths, and the package is allowed by --allow my_package or {trusted.VARIABLE}=my_package."""

GROUPED_NONE = re.compile(r"(?<=\w)=None\Z")
"""End of an option of a group that is null."""

NOISE = re.compile(
    r"(Does not validate against any of the Union|Subtypes: |Errors:|Given value type: |Expected a path but "
    r"|Expected a <class 'NoneType'>|Problem with given class_path |Given value: (Namespace|NestedArg))"
)
"""Beginnings of lines of an error that explain the parser, not the mistake."""

UNKNOWN = re.compile(
    r"Expected a dot import path string: (\S+(?: \w+)*)|has no attribute '(\w+)'|No module named '([\w.]+)'"
)
"""Parser error about a class that cannot be found."""

UNACCEPTED = re.compile(r"(?:(?:Group|Subcommand) '([\w.]+)' does not accept option|Option|Key) '([\w.]+)'")
"""Parser error about an argument that a class does not have."""

PLACE = re.compile(r"[\w.]+(?=: )")
"""The argument that is wrong, at the head of a message of one line."""

UPGRADE = "python -m tabattn.convert OLD.yaml NEW.yaml rewrites a configuration"
"""Remedy for a configuration of an earlier version."""

MOST_OPTIONS = 20
"""Most options that are listed; of more only the nearest is named."""

REWRITES: tuple[tuple[str, str], ...] = (
    (r'Parser key "([^"]+)":?', r"\1:"),
    (r"Expected a dot import path string: (\S+(?: (?!Given |Got )\w+)*)", r"no class is called '\1'"),
    (r"Type \S.* expects a function or a callable class: ", ""),
    (r"Expected a (?:\w+\.)*Literal\[(.*?)\]", r"expected one of \1"),
    (r"Expected a <class '(?:\w+\.)*(\w+)'>", r"expected \1"),
    (r"<class '(?:\w+\.)*(\w+)'>", r"\1"),
    (r"\.* Got value: Namespace.*", ""),
    (r"\.* (?:Got|Given) value: (.+)", r", got \1"),
    (r"(no class is called '[^']+'|is not accepted|has no attribute '\w+'|No module named '\S+'), got .*", r"\1"),
    (r"(is not imported: .*?=\w+|is no class: functions and other objects are not taken), got .*", r"\1"),
    (r"arguments are required: \w+\.", "arguments are required: --"),
)
"""Replacements in a one-line message, applied in this order: pattern and text."""


LOGGER = logging.getLogger("tabattn.training.parser")
"""Logger of every parser, which prints nothing; see ``tabattn.training.discards``."""
LOGGER.setLevel(logging.DEBUG)
LOGGER.propagate = False
LOGGER.addHandler(logging.NullHandler())


class HelpFormatter(DefaultHelpFormatter):
    """Help formatter that keeps the line breaks of descriptions and examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "".join(f"{indent}{line}" for line in text.splitlines(keepends=True))


class Parser(LightningArgumentParser):
    """Argument parser that takes full flag names only and reports an error in one line.

    Args:
        args: As for the base class.
        kwargs: As for the base class.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("description", DESCRIPTION)
        kwargs.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, **kwargs)
        if not debugging():
            self.logger = LOGGER

    def parse_args(self, args: Any = None, *others: Any, **kwargs: Any) -> Any:
        """Parse a command line, or one option of a class.

        The base class passes an option of a group, such as ``--data.windows.x=null``, on to a parser of its own as the
        text of a Python value, which reads ``None`` as a word.
        """
        if isinstance(args, list) and not self.exit_on_error:
            args = [GROUPED_NONE.sub("=null", word) if isinstance(word, str) else word for word in args]
        return super().parse_args(args, *others, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with status 2 and a one-line message; raise inside another parser or when debugging.

        Args:
            message: Message of the parser.
            ex: Exception behind it.
        """
        if not self.exit_on_error or debugging():
            super().error(message, ex)
        self.exit(2, f"error: {tidy(message)}{self._hint(message, ex)}\n")

    def _hint(self, message: str, ex: Exception | None) -> str:
        """Hint of what could have been meant: the classes for a wrong class, the options for a wrong option."""
        unknown = UNKNOWN.search(message)
        if unknown and (command := remedy(unknown[3])):
            return f"; it comes with an extra: {command}"
        hint = next((owner._typehint for owner in _owners(ex) if hasattr(owner, "_typehint")), None)
        if unknown and hint is not None:
            families = _known(hint)
            lists = "".join(f"; {family}: {', '.join(names)}" for family, names in families.items())
            name = unknown[unknown.lastindex or 0]
            known = called(name.strip("'\"")) if FAMILIES[Mechanism] in families else ""
            return lists + (known or nearest(name, [each for names in families.values() for each in names]))
        parser = next((owner for owner in _owners(ex) if isinstance(owner, ArgumentParser)), self)
        if option := UNACCEPTED.search(message):
            moves = _moves(ex)
            if moved := moves.get(option[2]) or moves.get(option[2].partition(".")[0]):
                place = PLACE.match(tidy(message))
                path = f"{place[0] if place else 'model'}.{moved}"
                return f"; it is --{earlier.flag(path)} today, and {UPGRADE}"
            options = _options(parser, option[1])
            listed = f"; options: {', '.join(options)}" if len(options) <= MOST_OPTIONS else ""
            return listed + nearest(option[2], options)
        flag = re.search(r"unrecognized arguments: (--[^\s=]+)", message)
        if flag and flag[1].endswith(".help"):
            return "; choose the class it belongs to first"
        if flag and parser._subcommands_action is not None:
            return f"; choose what to do first: {', '.join(parser._subcommands_action.choices)}"
        return nearest(flag[1], parser._option_string_actions) if flag else ""


def split_allowed(args: ArgsType) -> tuple[ArgsType, list[str]]:
    """Split ``--allow`` from a command line, as configurations must not be able to set it.

    Args:
        args: Words of a command line; a nested dictionary is returned as it is.

    Returns:
        The other words, and the values of ``--allow``.

    Raises:
        MisconfigurationException: A value is not a package name.
    """
    if not isinstance(args, list):
        return args, []
    others: list[str] = []
    packages: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--allow":
            value = next(words, "")
        elif word.startswith("--allow="):
            value = word.removeprefix("--allow=")
        else:
            others.append(word)
            continue
        try:
            if not (found := trusted.names([value])):
                raise ValueError("--allow takes the name of a package, such as my_package, got none")
        except ValueError as ex:
            raise MisconfigurationException(str(ex)) from ex
        packages += found
    return others, packages


def debugging() -> bool:
    """Whether tracebacks are requested (``JSONARGPARSE_DEBUG`` is set)."""
    return os.environ.get("JSONARGPARSE_DEBUG", "").lower() not in {"", "0", "false", "no"}


def nearest(name: str, names: Iterable[str]) -> str:
    """Return " (did you mean ...?)" for the name nearest to a misspelt one; empty if none is near."""
    spellings = {known.lower(): known for known in names if known != name}
    matches = difflib.get_close_matches(name.lower(), spellings, n=1)
    return f" (did you mean {spellings[matches[0]]}?)" if matches else ""


def tidy(message: str) -> str:
    """Reduce a parser error to the one line that says what is wrong."""
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    kept = " ".join(dict.fromkeys(line for line in lines if line and not NOISE.match(line)))
    for pattern, replacement in REWRITES:
        kept = re.sub(pattern, replacement, kept)
    return re.sub(r"^(?:[\w.]+: )+", lambda keys: keys[0].removesuffix(": ").replace(": ", ".") + ": ", kept)


def _options(parser: ArgumentParser, group: str | None) -> list[str]:
    """Option names of a parser, or of one of its subcommands or groups."""
    if parser._subcommands_action is not None and group is not None:
        parser, group = parser._subcommands_action._name_parser_map[group], None
    prefix = f"{group}." if group in (parser.groups or {}) else ""
    typed = {action.dest for action in parser._actions if hasattr(action, "_typehint") and action.option_strings}
    return sorted(dest.removeprefix(prefix) for dest in typed if dest.startswith(prefix) and not dest.endswith("help"))


def _owners(ex: BaseException | None) -> Iterator[Any]:
    """Yield the objects (``self``) in an exception's traceback, innermost first."""
    for link in reversed(list(chained(ex))):
        for frame, _ in reversed(list(traceback.walk_tb(link.__traceback__))):
            if "self" in frame.f_locals:
                yield frame.f_locals["self"]


def _moves(ex: BaseException | None) -> Mapping[str, str]:
    """Map of earlier to present arguments of the innermost class in an exception's traceback."""
    found: type = object
    for link in chained(ex):
        for frame, _ in traceback.walk_tb(link.__traceback__):
            found = frame.f_locals.get("val_class", found)
    return earlier.moves(found)


def _known(hint: Any) -> dict[str, list[str]]:
    """Names of the classes that a type hint accepts, by their family."""
    return {
        family(base): sorted({each.__name__ for each in concrete_classes(base)})
        for base in dict.fromkeys(bases(hint))
        if any(concrete_classes(base))
    }


def family(base: type) -> str:
    """Plural noun for the subclasses of a type, for messages."""
    return FAMILIES.get(base, getattr(base, "family", f"subclasses of {base.__name__}"))


def bases(hint: Any) -> Iterator[type]:
    """Yield the base classes in a type hint whose subclasses an argument takes."""
    if isinstance(hint, type) and hint.__module__ != "builtins":
        yield hint
    arguments = get_args(hint)
    for argument in arguments[-1:] if get_origin(hint) is collections.abc.Callable else arguments:
        yield from bases(argument)


def concrete_classes(base: type) -> Iterator[type]:
    """Yield the concrete subclasses of a class; of Lightning's, only public ones."""
    internal = "lightning." if base in {LightningModule, LightningDataModule} else "lightning.pytorch.demos"
    subclasses: list[type] = base.__subclasses__()
    for subclass in subclasses:
        hidden = inspect.isabstract(subclass) or subclass.__name__.startswith("_")
        hidden = hidden or getattr(subclass, "training_step", None) is LightningModule.training_step
        if not hidden and not subclass.__module__.startswith(internal):
            yield subclass
        yield from concrete_classes(subclass)
