"""Program: ``python -m tabattn.compare.swap CHECKPOINT``."""

import sys

from tabattn.compare.swap.command import main

if __name__ == "__main__":
    sys.exit(main())
