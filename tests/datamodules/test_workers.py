"""Loader workers that are left when a process ends."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEAVING = """
import sys
from datamodules.counter import CounterLoader
batches = iter(CounterLoader(range(10**9), 10**6, num_workers=1))
assert next(batches) == 0
sys.exit(7)
"""


def test_a_process_with_workers_ends() -> None:
    """Its workers ignore SIGTERM, by which multiprocessing would end them and then wait."""
    call = [sys.executable, "-c", LEAVING]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 7
    assert done.stderr == ""
