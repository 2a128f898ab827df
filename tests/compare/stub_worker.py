"""Worker of a cell that does what its name says: ``exits-3``, or ``waits`` until it is asked to end."""

import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    """Run."""
    folder, key, *rest = sys.argv[1:]
    name, _, value = key.partition("-")
    Path(folder, f"{key}.txt").write_text(f"{os.environ['OMP_NUM_THREADS']} {' '.join(rest)}")
    if name == "exits":
        sys.exit(int(value))

    def save(*_: object) -> None:
        Path(folder, "saved").touch()
        sys.exit(143)

    signal.signal(signal.SIGTERM, save)
    Path(folder, "begun").touch()
    time.sleep(60)


if __name__ == "__main__":
    main()
