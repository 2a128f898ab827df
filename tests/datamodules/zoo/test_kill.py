"""A command that is killed goes on where it stood when it is given again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datamodules.zoo import __main__ as command
from datamodules.zoo.zoo_file import read_zoo

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_a_killed_command_goes_on(tmp_path: Path) -> None:
    path, parts = tmp_path / "a.h5", tmp_path / "a.h5.parts"
    common = ["--networks", "800", "--tasks", "2", "--steps", "10", "--out"]
    program = [sys.executable, "-m", "datamodules.zoo", *common, str(path)]
    started = subprocess.Popen(program, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    while started.poll() is None and len(list(parts.glob("*.safetensors"))) < 1:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    assert not path.exists()
    assert len(list(parts.glob("*.safetensors"))) >= 1
    assert command.main([*common, str(path)]) == 0
    assert command.main([*common, f"{tmp_path}/whole.h5"]) == 0
    found, whole = read_zoo(path), read_zoo(tmp_path / "whole.h5")
    assert np.allclose(found.population.weight, whole.population.weight, atol=1e-4)
    assert np.array_equal(found.population.source, whole.population.source)
    assert not parts.exists()
