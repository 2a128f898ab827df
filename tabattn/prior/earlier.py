"""Arguments of the task of versions whose network was chosen by a word, ``profile``, and of networks in their files."""

from collections.abc import Mapping
from typing import Any

from tabattn.prior import NETWORKS
from tabattn.storage.earlier import relocate
from tabattn.storage.hyperparameters import import_path

NAMES = {"default": "PriorNetwork", "legacy": "NanoTabPFN"}
"""Networks by the word."""

SIZES = ("dim", "heads", "hidden", "layers", "classes")
OF_DEFAULT = ("thinking_rows", "feature_group", "cell_attention", "options")
"""Arguments that a legacy network had none of; its files may say them all the same."""

MOVED = {
    "profile": "network.class_path",
    **{name: f"network.init_args.{name}" for name in (*SIZES, *OF_DEFAULT)},
}
"""Where each argument is found today."""


def upgrade(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of ``PriorClassification`` of such a version as those of today.

    Raises:
        ValueError: ``profile`` is none of the words.
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
