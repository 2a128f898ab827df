"""Prior dumps: HDF5 files of in-context tasks, written by ``python -m datamodules.dump``."""
