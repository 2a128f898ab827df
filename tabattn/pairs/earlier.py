"""Migration of ``PairInference`` arguments of versions with one list of options and ``arch``."""

import inspect
from collections.abc import Mapping
from typing import Any

from tabattn.pairs import NETWORKS
from tabattn.storage.earlier import relocate
from tabattn.storage.hyperparameters import import_path

NAMES = {"tnpd": "TNPD", "tnpa": "TNPA", "seed": "SeedNetwork"}
"""Network class by ``arch``."""

SIZES = ("dim", "heads", "hidden", "layers", "members", "components", "residual", "centred", "norm")
MOVED = {
    "arch": "network.class_path",
    **{name: f"network.init_args.{name}" for name in SIZES},
    **{name: f"network.init_args.tokens.{name}" for name in ("member_embed", "fourier")},
}
"""Path in a present configuration of each earlier argument."""

UNUSED = {"centred": False, "norm": "after"}
"""Arguments that are dropped for a network without them, if they have these values."""


def upgrade(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate arguments of ``PairInference`` to today's.

    Raises:
        ValueError: ``arch`` is unknown.
    """
    arch = arguments.get("arch", "tnpd")
    if arch not in NAMES:
        raise ValueError(f"arch must be one of {', '.join(NAMES)}, got {arch!r}")
    found = relocate(arguments, MOVED)
    network = NETWORKS[NAMES[arch]]
    options = found["network"].get("init_args", {})
    for name, value in UNUSED.items():
        if name not in inspect.signature(network).parameters and options.get(name) == value:
            del options[name]
    return found | {"network": {"class_path": import_path(network), "init_args": options}}
