"""Command line of the pictures of a trained network."""

import sys

from tabattn.look.command import main

if __name__ == "__main__":
    sys.exit(main())
