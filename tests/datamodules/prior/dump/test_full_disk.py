"""A dump on a full disk: one error, no file under its name, and the same command resumes."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datamodules.hdf5_write import PAGE, WriteBuffer
from datamodules.prior.dump.read import Dump
from datamodules.prior.dump.write import write_dump
from tabattn.contract.errors import DataError
from tests.datamodules.prior.dump.test_write import Tasks, plan

ROOT = Path(__file__).parents[4]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A disk on which no file can grow beyond ``room`` bytes."""
    limit = {"room": 10**9}
    put = WriteBuffer._put

    def limited(self: WriteBuffer, start: int, content: Any) -> None:
        if start + len(content) > limit["room"]:
            put(self, start, memoryview(content)[: max(0, limit["room"] - start)])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        put(self, start, content)

    monkeypatch.setattr(WriteBuffer, "_put", limited)
    return limit


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.8, 0.95])
def test_a_dump_goes_on_where_the_disk_was_full(tmp_path: Path, disk: dict[str, int], share: float) -> None:
    many = plan(tasks=80, batch_size=4)
    expected = write_dump(tmp_path / "whole.h5", Tasks(), many)
    path = tmp_path / "a.h5"
    path.write_bytes(b"the old file")
    disk["room"] = round(share * (tmp_path / "whole.h5").stat().st_size)
    with pytest.raises(DataError, match=r"a\.h5 cannot be written: No space left on device$"):
        write_dump(path, Tasks(), many, overwrite=True)
    assert path.read_bytes() == b"the old file"
    disk["room"] = 10**9
    rest = Tasks()
    assert write_dump(path, rest, many, overwrite=True) == expected
    assert share < 0.9 or len(rest.made) < 12
    Dump(path).verify()


def test_tasks_that_were_never_written_are_noticed(tmp_path: Path) -> None:
    write_dump(tmp_path / "a.h5", Tasks(), plan())
    old = tmp_path / "old.h5"
    with h5py.File(tmp_path / "a.h5") as whole, h5py.File(old, "w") as file:
        for name, values in whole.items():
            kept = file.create_dataset(name, values.shape, values.dtype, chunks=values.chunks)
            if name == "X":
                kept[:4] = values[:4]
            else:
                kept[...] = values[()]
        file.attrs.update({name: value for name, value in whole.attrs.items() if name != "sealed"})
    with pytest.raises(DataError, match="2 of its chunks were never written: tasks are missing"):
        Dump(old)


def test_a_part_that_does_not_hold_what_was_handed_in_is_written_anew(tmp_path: Path) -> None:
    expected = write_dump(tmp_path / "whole.h5", Tasks(), plan())
    with pytest.raises(KeyboardInterrupt):
        write_dump(tmp_path / "a.h5", Tasks(fails_at=2), plan())
    with h5py.File(tmp_path / "a.h5.tmp", "r+") as file:
        file["X"][5] = 7
    rest = Tasks()
    assert write_dump(tmp_path / "a.h5", rest, plan()) == expected
    assert rest.made == [1, 2]


def test_a_buffer_reads_what_was_written_and_saves_it(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    content = bytearray(random.bytes(3 * PAGE + 100))
    path = tmp_path / "a"
    path.write_bytes(content)
    with path.open("r+b", buffering=0) as raw:
        buffer = WriteBuffer(raw)
        for _ in range(300):
            start, size = int(random.integers(len(content) + 500)), int(random.integers(1, 2 * PAGE))
            given = random.bytes(size)
            content.extend(bytes(max(0, start - len(content))))
            content[start : start + size] = given
            buffer.seek(start)
            buffer.write(given)
            if random.random() < 0.1:
                end = int(random.integers(len(content) // 2, len(content) + 300))
                buffer.truncate(end)
                content = content[:end].ljust(end, b"\0")
            place = int(random.integers(len(content)))
            buffer.seek(place)
            found = bytearray(3 * PAGE)
            assert found[: buffer.readinto(found)] == content[place : place + 3 * PAGE]
            assert buffer.seek(0, 2) == len(content)
            if random.random() < 0.05:
                buffer.save()
                assert path.read_bytes() == content


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for some of the tasks."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


COMMAND = """
import sys
from pathlib import Path
from datamodules.prior.dump import __main__ as dump
from datamodules.prior.dump.write import write_dump
from tests.datamodules.prior.dump.test_write import Tasks, plan
dump._run = lambda options: write_dump(options.out, Tasks(), plan(tasks=1500, batch_size=4))
sys.exit(dump.main(["--prior", "scm", "--out", sys.argv[1]]))
"""


@pytest.mark.slow
def test_the_command_ends_with_status_3_on_a_real_full_disk(small: Path) -> None:
    command = [sys.executable, "-c", COMMAND, str(small / "a.h5")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (3, f"error: {small}/a.h5 cannot be written: No space left on device\n")
    assert [path.name for path in small.iterdir()] == ["a.h5.tmp"]
    subprocess.run(["mount", "-o", "remount,size=10m", small], check=True)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    Dump(small / "a.h5").verify()
