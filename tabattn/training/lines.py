"""Last lines of a run on the terminal: below its progress bars."""

import sys

from tqdm import tqdm  # type: ignore[import-untyped]


def last_line(text: str) -> None:
    """Write a line to stderr after which a run ends; its open progress bars are closed, which end their lines."""
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
