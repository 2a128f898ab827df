"""Train, validate, test and apply: ``python train.py fit --config configs/prior.yaml --model.attention=Local``."""

import sys

import callbacks  # noqa: F401
import datamodules  # noqa: F401
import tabattn.tasks  # noqa: F401
from tabattn.cli import main

# The imports above are what makes the names of tasks, datamodules and callbacks known to the command line.
if __name__ == "__main__":
    sys.exit(main())
