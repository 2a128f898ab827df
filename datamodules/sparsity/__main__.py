"""Command that converts files of sparse attention graphs: ``python -m datamodules.sparsity --help``."""

import argparse
import re
import sys
from pathlib import Path

from datamodules.commands import check_target, status_of
from datamodules.sparsity.chosen import read
from datamodules.sparsity.original import write_dump
from datamodules.sparsity.records import Records, write_records
from tabattn.contract.errors import DataError
from tabattn.storage.original_projections import read_original, write_original
from tabattn.storage.projection_files import (
    LayerProjection,
    write_projections,
)
from tabattn.storage.projection_loading import read_learned

EXAMPLES = """\
examples:
  queries and keys, of Sparsefinder's own programs and back:
    python -m datamodules.sparsity --convert kqs_enc-attn.pt --out queries_keys.h5
    python -m datamodules.sparsity --convert queries_keys.h5 --out kqs_enc-attn.pt
  projections, with centroids in one file of all layers, or the k-means of each layer:
    python -m datamodules.sparsity --convert proj.pickle --centroids centroids.pickle --out projections.safetensors
    python -m datamodules.sparsity --convert proj.pickle --centroids 0l.pickle 1l.pickle --out projections.safetensors
    python -m datamodules.sparsity --convert projections.safetensors --centroids centroids.pickle --out proj.pickle
  projections of a training, from its checkpoint:
    python -m datamodules.sparsity --convert runs/sparsity/version_0/checkpoints/best.ckpt --out projections.safetensors
  what a file holds:
    python -m datamodules.sparsity --check queries_keys.h5

The endings say what is converted: .pt and .h5 are queries and keys; .pickle, .safetensors and .ckpt are projections. No
code of a file is run: pickles that hold more than tensors and arrays are refused. A .safetensors file has a JSON file
beside it that says its layers and sizes.

Layers of the original's files are called layers.0, layers.1 and so on; --paths gives them the module paths of a model.
Exit status: 0 written, 2 wrong arguments, 3 a file cannot be read or written.
"""

QUERIES_KEYS = {".pt": [".h5"], ".h5": [".pt"]}
PROJECTIONS = {".pickle": [".safetensors"], ".safetensors": [".pickle"], ".ckpt": [".safetensors", ".pickle"]}


def parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    command = argparse.ArgumentParser(
        prog="python -m datamodules.sparsity",
        description="Convert recorded queries and keys, or projections, from and to the files of Sparsefinder.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = command.add_argument
    add("--convert", type=Path, metavar="FILE", help="file to convert")
    add("--out", type=Path, help="file to write")
    add("--centroids", type=Path, nargs="+", default=[], help="files of centroids, to read with .pickle, or to write")
    add("--paths", nargs="+", default=[], help="module path of each layer, in their order")
    add("--concat", action="store_true", help="maps of a .pickle are of queries and keys together (--concat-q-and-k)")
    add("--skip", action="store_true", help="maps of a .pickle were not used (--skip-proj): keep its centroids alone")
    add("--rescale", action="store_true", help="multiply a dump's queries by the root of head_dim")
    add("--overwrite", action="store_true", help="replace a file of this name")
    add("--check", type=Path, metavar="FILE", help="read a file and say what it holds, write nothing")
    return command


def main(arguments: list[str] | None = None) -> int:
    """Convert what a command line says.

    Args:
        arguments: Arguments of the command line; None = those of the process.

    Returns:
        Exit status.
    """
    options = parser().parse_args(arguments)
    return status_of(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if (options.check is None) == (options.convert is None):
        raise ValueError("give either --convert or --check")
    if options.check is not None:
        _say(options.check, options)
        return
    if options.out is None:
        raise ValueError("--convert needs --out")
    ends = QUERIES_KEYS | PROJECTIONS
    before, after = options.convert.suffix, options.out.suffix
    if before not in ends or after not in ends[before]:
        pairs = ", ".join(f"{one} to {' or '.join(others)}" for one, others in ends.items())
        raise ValueError(
            f"{before or 'a file without ending'} to {after or 'none'} is no conversion; there are: {pairs}"
        )
    if before != ".pickle" and (options.concat or options.skip):
        raise ValueError("--concat and --skip go with a .pickle of projections only")
    check_target(options.out, options.overwrite)
    try:
        (_queries_keys if before in QUERIES_KEYS else _projections)(options)
    except OSError as ex:
        raise DataError(f"{options.out} cannot be written: {ex.strerror}") from ex


def _queries_keys(options: argparse.Namespace) -> None:
    if options.centroids:
        raise ValueError("--centroids goes with projections only")
    records = _renamed(read(options.convert, None, options.rescale), options.paths)
    if options.out.suffix == ".h5":
        write_records(options.out, records)
    elif write_dump(options.out, records):
        sys.stdout.write("queries see only keys up to their own place: tell its reader, such as by --add-causal-mask\n")
    _say(options.out, options)


def _renamed(records: Records, paths: list[str]) -> Records:
    """Recorded queries and keys whose layers have these paths."""
    _check_paths(paths, len(records.layers))
    if paths:
        layers = zip(records.layers, paths, strict=True)
        records.layers = tuple(each._replace(layer=each.layer._replace(path=path)) for each, path in layers)
    return records


def _check_paths(paths: list[str], layers: int) -> None:
    if paths and (len(paths) != layers or len(set(paths)) < layers):
        raise ValueError(f"--paths must name the {layers} layers, each once, got {len(set(paths))} names")


def _projections(options: argparse.Namespace) -> None:
    if options.rescale:
        raise ValueError("--rescale goes with dumps of queries and keys only")
    if options.out.suffix == ".pickle":
        if len(options.centroids) > 1:
            raise ValueError(f"centroids are written to one file, got {len(options.centroids)}")
        target = options.centroids[0] if options.centroids else None
        if target is not None:
            check_target(target, options.overwrite)
        layers = dict(sorted(_read_any(options.convert).items(), key=lambda each: _natural(each[0])))
        write_original(options.out, layers, target)
    else:
        if options.convert.suffix == ".pickle":
            found = read_original(options.convert, options.centroids, concat=options.concat, skip=options.skip)
        elif options.centroids:
            raise ValueError("--centroids goes with a .pickle of projections only, got a checkpoint, which holds them")
        else:
            found = read_learned(options.convert)
        _check_paths(options.paths, len(found))
        write_projections(options.out, dict(zip(options.paths or found, found.values(), strict=True)))
    sys.stdout.write(f"{options.out}: projections of {_told(_read_any(options.out))}\n")


def _natural(path: str) -> list[tuple[bool, int, str]]:
    """Key of an order in which layer 2 is before layer 10."""
    return [(word.isdigit(), int(word) if word.isdigit() else 0, word) for word in re.split(r"(\d+)", path)]


def _read_any(path: Path) -> dict[str, LayerProjection]:
    return read_original(path) if path.suffix == ".pickle" else read_learned(path)


def _told(layers: dict[str, LayerProjection]) -> str:
    """What projections there are, in one line."""
    sizes = next(iter(layers.values())).sizes
    return f"{len(layers)} layers; {next(iter(layers))}: {', '.join(f'{name} {size}' for name, size in sizes.items())}"


def _say(path: Path, options: argparse.Namespace) -> None:
    """Say what a file holds."""
    if path.suffix in PROJECTIONS:
        sys.stdout.write(f"{path}: projections of {_told(_read_any(path))}\n")
        return
    layers = read(path, None, options.rescale and path == options.check).layers
    items = sum(len(recorded.group) for recorded in layers)
    longest = max(int(recorded.keys.max()) for recorded in layers)
    sys.stdout.write(f"{path}: {len(layers)} layers, {items} items, at most {longest} keys\n")


if __name__ == "__main__":
    sys.exit(main())
