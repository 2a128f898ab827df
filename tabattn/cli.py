"""The command line with every task, datamodule and callback of the project known by name."""

import sys

import callbacks  # noqa: F401
import datamodules  # noqa: F401
import tabattn.tasks  # noqa: F401
from tabattn.training.cli import CLI, main

__all__ = ["CLI", "main"]

if __name__ == "__main__":
    sys.exit(main())
