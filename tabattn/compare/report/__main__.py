"""Command line ``python -m tabattn.compare.report DIR``: writes the report of a comparison again, running nothing."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tabattn.compare.report.write import write


def main(argv: Sequence[str] | None = None) -> None:
    """Write and print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m tabattn.compare.report",
        description="Write the report of a comparison again, from the results in its folder; nothing is run.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="folder of the comparison: --out of python -m tabattn.compare")
    options = parser.parse_args(argv)
    try:
        report = write(options.folder)
    except (ValueError, OSError) as ex:
        parser.error(" ".join(str(ex).split()))
    sys.stdout.write(report.text)
    for note in report.notes:
        sys.stdout.write(f"{note}\n")
    sys.stderr.write(f"written to {', '.join(map(str, report.paths))}\n")


if __name__ == "__main__":
    main()
