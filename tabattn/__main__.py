"""Command-line entry point: ``python -m tabattn fit --config configs/prior.yaml --model.attention=Local``."""

import sys

from tabattn.cli import main

if __name__ == "__main__":
    sys.exit(main())
