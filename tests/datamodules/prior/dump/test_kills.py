"""A dump whose writer is killed at any write, also in the middle of one, is resumed to the same content."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from datamodules.hdf5_write import WriteBuffer
from datamodules.prior.dump.read import Dump
from datamodules.prior.dump.write import write_dump
from tests.datamodules.prior.dump.test_write import Tasks, plan

PUT = WriteBuffer._put


def killed(path: Path, write: int, share: float) -> None:
    """Write a dump in a child that dies of signal 9 within a write, of which a share reaches the disk."""
    child = os.fork()
    if not child:
        done = 0

        def put(self: WriteBuffer, start: int, content: Any) -> None:
            nonlocal done
            if done == write:
                PUT(self, start, memoryview(content)[: int(len(content) * share)])
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            PUT(self, start, content)

        WriteBuffer._put = put  # type: ignore[method-assign]
        write_dump(path, Tasks(), plan())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize(
    "share", [pytest.param(0.0, marks=pytest.mark.slow), 0.5, pytest.param(1.0, marks=pytest.mark.slow)]
)
def test_a_dump_killed_at_any_write_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    writes = []
    monkeypatch.setattr(WriteBuffer, "_put", lambda *given: (writes.append(given), PUT(*given))[1])
    expected = write_dump(tmp_path / "whole.h5", Tasks(), plan())
    monkeypatch.undo()
    kept = 0
    for write in range(len(writes)):
        path = tmp_path / f"{write}.h5"
        killed(path, write, share)
        assert not path.exists()
        rest = Tasks()
        assert write_dump(path, rest, plan()) == expected
        Dump(path).verify()
        kept += 3 - len(rest.made)
    assert len(writes) > 15
    assert kept >= len(writes) / 2, "most of what was written before a kill is kept"
