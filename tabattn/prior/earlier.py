"""Migration of arguments of in-context tasks, of versions with the network's among the task's, and of weight files."""

from collections.abc import Mapping
from typing import Any

from tabattn.prior import NETWORKS
from tabattn.storage.earlier import relocate
from tabattn.storage.hyperparameters import import_path

NAMES = {"default": "PriorNetwork", "legacy": "NanoTabPFN"}
"""Network class by ``profile``."""

SIZES = ("dim", "heads", "hidden", "layers", "classes")
OF_DEFAULT = ("thinking_rows", "feature_group", "cell_attention", "options")
"""Arguments that files of a legacy network may hold although they have no effect on it."""

MOVED = {
    "profile": "network.class_path",
    **{name: f"network.init_args.{name}" for name in (*SIZES, *OF_DEFAULT)},
}
"""Path in a present configuration of each earlier argument."""

REGRESSION_MOVED = {
    **{name: MOVED[name] for name in ("dim", "heads", "hidden", "layers", "thinking_rows", "feature_group", "options")},
    "bins": MOVED["classes"],
}
"""The same of ``PriorRegression``."""


def upgrade(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate arguments of ``PriorClassification`` to today's.

    Raises:
        ValueError: ``profile`` is unknown.
    """
    profile = arguments.get("profile", "default")
    if profile not in ("default", "legacy"):
        raise ValueError(f"profile must be default or legacy, got {profile!r}")
    found = relocate(arguments, MOVED)
    options = found.get("network", {}).get("init_args", {})
    for name in OF_DEFAULT:
        if profile == "legacy" or options.get(name, 0) is None:
            options.pop(name, None)
    return found | {"network": {"class_path": import_path(NETWORKS[NAMES[profile]]), "init_args": options}}


def upgrade_regression(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate arguments of ``PriorRegression`` to today's."""
    found = relocate(arguments, REGRESSION_MOVED)
    given = found["network"]["init_args"]
    given["options"] = {**(given.get("options") or {}), "targets": "numbers"}
    return found | {"network": {"class_path": import_path(NETWORKS["PriorNetwork"]), "init_args": given}}
