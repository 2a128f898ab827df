"""HDF5 probe, a program: read the structure of the file named in the arguments, and exit with status 0.

The HDF5 library hangs on some damaged files and crashes on others. ``datamodules.hdf5`` therefore runs this program,
which it can stop, on files of unknown origin first. Errors that the library raises are ignored here, as the caller
gets them too.
"""

import sys

import h5py

MOST = 1 << 26
"""Largest array in bytes that is read completely; of larger ones the first and the last entry are read."""


def walk(path: str) -> None:
    """Read every attribute, every chunk index, and every dataset (of large ones both ends)."""
    with h5py.File(path, "r") as file:
        for name in file:
            if isinstance(file.get(name, getlink=True), h5py.HardLink):
                _meet(file[name])


def _meet(item: h5py.Group | h5py.Dataset | h5py.Datatype) -> None:
    dict(item.attrs)
    if isinstance(item, h5py.Group):
        for name in item:
            if isinstance(item.get(name, getlink=True), h5py.HardLink):
                _meet(item[name])
    elif isinstance(item, h5py.Dataset) and item.shape is not None and not item.is_virtual and not item.external:
        if item.chunks:
            item.id.get_num_chunks()
        if item.nbytes <= MOST:
            item[()]
        elif item.nbytes // len(item) <= MOST:
            item[0], item[-1]


if __name__ == "__main__":
    try:
        walk(sys.argv[1])
    except Exception:
        sys.exit(0)
