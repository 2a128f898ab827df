"""Weight files: safetensors with a header of plain values and a checksum."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tabattn.contract.errors import DataError
from tabattn.storage.checksum import KEY, PLACEHOLDER, seal, verify
from tabattn.storage.files import write_file

FORMAT = "tabattn.prior"
VERSION = 1


def write(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], kind: str = FORMAT) -> None:
    """Write tensors and a header of plain values atomically to a weight file of a kind, with a checksum."""
    text = {
        "format": kind,
        "version": str(VERSION),
        "header": json.dumps(header, default=lambda scalar: scalar.item()),
        KEY: PLACEHOLDER,
        "sealed": "true",
    }
    file = io.BytesIO(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, text))
    seal(file)
    write_file(path, file.getbuffer())


def read(path: str | Path, kind: str = FORMAT) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a weight file of ``write``, once its checksum is verified; files of earlier versions have none.

    Raises:
        ValueError: The file is damaged, of another kind, or of a later version.
    """
    return read_any(path, (kind,))[:2]


def read_any(path: str | Path, kinds: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Read a weight file of one of several kinds, as ``read`` does; returns its kind too."""
    try:
        whole = verify(path)
        with safe_open(path, "pt") as file:
            text = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except DataError as ex:
        raise ValueError(str(ex)) from ex
    except (SafetensorError, TypeError, RuntimeError, LookupError, AttributeError) as ex:
        raise ValueError(f"{path} is damaged or no safetensors file: {ex}") from ex
    if "sealed" in text and not whole:
        raise ValueError(f"{path} is damaged: its checksum is gone")
    kind = str(text.get("format"))
    if kind not in kinds:
        named = " or ".join(map(repr, kinds))
        raise ValueError(f"{path} was not written by tabattn: its format is {kind!r}, not {named}")
    if text.get("version") != str(VERSION):
        raise ValueError(f"{path} has version {text.get('version')}, this package reads version {VERSION}")
    try:
        header = json.loads(text["header"])
    except (KeyError, ValueError, RecursionError) as ex:
        raise ValueError(f"{path} has a damaged header") from ex
    if not isinstance(header, dict):
        raise ValueError(f"{path} has a damaged header")
    return tensors, header, kind
