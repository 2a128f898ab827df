"""Compare attention mechanisms: ``python -m tabattn.compare --config prior --attention all --out compared``."""

import sys

from tabattn.compare.command import main

if __name__ == "__main__":
    sys.exit(main())
