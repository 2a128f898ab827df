"""HDF5 files of in-context tasks: ``python -m datamodules.dump`` writes them, ``PriorDump`` trains on them."""
