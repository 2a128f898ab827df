"""Files on disk: atomic writes, checksums, the reader of checkpoints, and class paths that may be trusted."""
