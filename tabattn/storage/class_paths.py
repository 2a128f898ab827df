"""Allow list of class paths for jsonargparse, in the command line and in ``load_from_checkpoint``."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import yaml
from jsonargparse import _actions, _common, _loaders_dumpers, _optionals, _typehints, _util

from tabattn.contract.library_warnings import deprecated_parsing
from tabattn.storage import trusted

MOST_VALUES = 100_000
"""Most values of a YAML text after expansion of its aliases."""

DEEPEST = 50
"""Deepest nesting of a YAML text."""


@contextmanager
def guard(packages: Iterable[str] = ()) -> Iterator[None]:
    """Context in which jsonargparse resolves allowed class paths only.

    Inside, a class path is resolved only in an allowed package and only to a class. Where no type says which classes
    are expected, as for ``Any`` or for a callable that returns no class, none is built. Configurations are read from
    local files only, and YAML whose aliases multiply without bound is refused.

    The library's own deny list cannot tell functions from classes and does not cover local files and aliases, so
    functions of the library are patched inside the context. One that a later version lacks raises AttributeError.

    Args:
        packages: Names allowed inside, beside those of ``trusted.allowed``.

    Raises:
        ValueError: One is not the name of a package or module.
    """
    with ExitStack() as stack:
        stack.enter_context(trusted.allowing(packages))
        stack.enter_context(deprecated_parsing())
        for module in (_typehints, _actions):
            stack.enter_context(patch.object(module, "import_object", _import_class))
        stack.enter_context(patch.object(_typehints, "callable_instances", _no_instances))
        stack.enter_context(patch.object(_loaders_dumpers, "yaml_load", load_yaml))
        stack.enter_context(patch.dict(_loaders_dumpers.loaders, yaml=load_yaml))
        stack.enter_context(patch.dict(_common.parsing_settings, instantiate_subclass_spec_in_any=False))
        stack.enter_context(patch.object(_optionals, "_config_read_mode", "fr"))
        yield


def _import_class(name: Any, check_path: bool = True) -> Any:
    """Import an allowed class; replaces jsonargparse's ``import_object``."""
    if isinstance(name, str) and "." in name:
        trusted.check(name)
    found = _util.import_object(name, check_path)
    if not isinstance(found, type):
        raise trusted.UntrustedPathError(
            f"'{trusted.shortened(name)}' is no class: functions and other objects are not taken"
        )
    return found


def _no_instances(cls: type) -> bool:
    """Return no subclasses: no callable object is built in place of a function, as its type cannot be checked."""
    return False


_parse_yaml: Callable[[str], Any] = _loaders_dumpers.yaml_load
_loader: Callable[[], Any] = _loaders_dumpers.get_yaml_default_loader


def load_yaml(stream: str) -> Any:
    """Load YAML of bounded size and depth, in place of ``yaml_load`` of jsonargparse.

    Raises:
        yaml.YAMLError: The text is no YAML, expands to too many values, or is nested too deeply.
    """
    try:
        _size(yaml.compose(stream, Loader=_loader()), {}, 0)
        return _parse_yaml(stream)
    except (RecursionError, ValueError, OverflowError) as ex:
        raise yaml.YAMLError(trusted.shortened(str(ex))) from ex


def _size(node: yaml.Node | None, sizes: dict[int, int], depth: int) -> int:
    """Number of values of a node after expansion: those of an alias count at each use."""
    if depth > DEEPEST:
        raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep, or contains itself")
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in sizes:
        parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
        sizes[id(node)] = 1 + sum(_size(part, sizes, depth + 1) for part in parts)
    if sizes[id(node)] > MOST_VALUES:
        raise yaml.YAMLError(f"it stands for more than {MOST_VALUES} values")
    return sizes[id(node)]
