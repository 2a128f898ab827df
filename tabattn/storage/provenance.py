"""Provenance of a run: versions, state of the source code, and fingerprint of the data."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
"""Folder that holds the packages of this project."""

PACKAGES = ("tabattn", "datamodules", "callbacks")
LIBRARIES = ("torch", "lightning", "torchmetrics", "entmax", "numpy", "scipy", "scikit-learn", "pandas", "jsonargparse")
"""Distributions whose versions are recorded."""

WHOLE = 256 * 2**20
"""Size in bytes up to which a file is hashed whole; of a larger one its size, its first and its last megabyte."""
CHUNK = 2**20
MOST_FILES = 10_000
"""Most files of a folder that are hashed."""


def versions() -> dict[str, str]:
    """Versions of this package where installed, of Python and the libraries that results depend on; the GPU if any."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in ("tabattn", *LIBRARIES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def code_version(without: Collection[Path] = ()) -> str:
    """Checksum of the project's Python sources, 16 hexadecimal digits: a changed checkout has another.

    Args:
        without: Files that are left out.
    """
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted({*(ROOT / package).rglob("*.py")} - {*without}):
            digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def git_state() -> dict[str, Any] | None:
    """Commit of the checkout and whether its tracked files differ from it; None for an installed package."""
    if not (ROOT / ".git").exists():
        return None
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "changed": bool(changed)}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def data_fingerprint(data: Any) -> str:
    """Checksum of a datamodule's configuration and of the bytes of all files it names, 16 hexadecimal digits.

    Args:
        data: Configuration of the datamodule: plain values in any nesting.
    """
    text = json.dumps(data, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode())
    for name, checksum in data_files(data).items():
        digest.update(f"{name}\0{checksum}\0".encode())
    return digest.hexdigest()[:16]


def data_files(data: Any) -> dict[str, str]:
    """Checksums of the files and folders that a datamodule's configuration names, by path as it names them.

    A text names a file by itself or between colons, as in ``table.csv:target``; a folder stands for its files.
    """
    return {name: _checksum(Path(name)) for name in sorted(set(_named(data)))}


def _named(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _named(part)
    elif isinstance(value, (str, Path)):
        text = str(value)
        yield from (part for part in {text, *text.split(":")} if part.strip("./") and _exists(part))


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        # Texts that no file can be called: too long, or with a null byte.
        return False


def _checksum(path: Path) -> str:
    """Checksum of a file, or of the names and bytes of the files in a folder."""
    if path.is_file():
        return _of_file(path)
    digest = hashlib.sha256()
    files = sorted(each for each in path.rglob("*") if each.is_file())
    digest.update(f"{len(files)}".encode())
    for each in files[:MOST_FILES]:
        digest.update(f"{each.relative_to(path).as_posix()}\0{_of_file(each)}\0".encode())
    return digest.hexdigest()


def _of_file(path: Path) -> str:
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE:
            while part := file.read(CHUNK):
                digest.update(part)
        else:
            digest.update(f"{size}".encode() + file.read(CHUNK))
            file.seek(-CHUNK, 2)
            digest.update(file.read(CHUNK))
    return digest.hexdigest()
