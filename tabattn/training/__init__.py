"""The command line and its runs: parsing, run folders, checkpoints and predictions."""
