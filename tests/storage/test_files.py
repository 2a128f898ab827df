"""Atomic writes: a file is complete or not there, however the writer ends."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from tabattn.prior.weights import write
from tabattn.storage import files
from tabattn.storage.files import disk_problem, path_problem, write_checkpoint, write_file
from tabattn.training.checkpoint_io import AtomicCheckpointIO
from tabattn.training.cli import main
from tests.helpers import MeanData, MeanTask
from tests.training.test_cli import FIT

ROOT = Path(__file__).parents[2]


def test_a_file_is_replaced_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_file(path, b"old")
    path.chmod(0o640)
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["a.bin"]


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that makes a power cut harmless: the file synced, renamed, the folder synced."""
    calls = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(Path(f"/proc/self/fd/{fd}").resolve().name), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), rename(a, b)))
    write_file(tmp_path / "a.bin", b"new")
    assert calls[0].endswith(files.PARTIAL)
    assert calls[1:] == ["rename", tmp_path.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a.bin"
    write_file(path, b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_file(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


KILLED = """
import os, signal, sys
from tabattn.storage.files import write_file
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_file(sys.argv[1], b"new")
"""


def test_a_killed_writer_leaves_the_old_file_and_the_next_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_file(path, b"old")
    (tmp_path / ".b.bin.0.partial").write_bytes(b"of another file")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.glob(".a.bin.*.partial"))) == 1
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == [".b.bin.0.partial", "a.bin"]


def test_temporary_files_of_running_writers_stay(tmp_path: Path) -> None:
    draft = tmp_path / f".a.bin.0{files.PARTIAL}"
    with draft.open("wb") as file:
        assert files.try_lock(file.fileno())
        file.write(b"half")
        file.flush()
        write_file(tmp_path / "a.bin", b"new")
        assert draft.exists()
    write_file(tmp_path / "a.bin", b"newer")
    assert not draft.exists()


@pytest.mark.parametrize(
    "cause",
    [
        OSError(errno.ENOSPC, "No space left on device", "a/b.ckpt"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 128 vs 22"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    ],
)
def test_a_full_disk_is_known_under_any_wrapper(cause: Exception) -> None:
    def wrapped() -> None:
        try:
            raise cause
        except Exception as ex:
            raise ValueError("you tried to log 1.0 which is currently not supported") from ex

    with pytest.raises(ValueError, match="you tried") as caught:
        wrapped()
    problem = disk_problem(caught.value)
    assert problem is not None
    assert "\n" not in problem
    assert disk_problem(ValueError("no disk")) is None
    assert disk_problem(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None


@pytest.mark.parametrize("outer", ["__cause__", "__context__"])
@pytest.mark.parametrize("inner", ["__cause__", "__context__"])
def test_a_disk_error_is_found_however_it_is_wrapped(outer: str, inner: str) -> None:
    """An exception of another thread or process is a cause without being a context; a ring ends the search."""
    first, second = RuntimeError("cannot save"), ValueError("cannot write")
    setattr(first, outer, second)
    setattr(second, inner, first)
    assert disk_problem(first) is None
    setattr(second, inner, OSError(errno.ENOSPC, "No space left on device", "a.ckpt"))
    assert disk_problem(first) == "a.ckpt: No space left on device"


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Limit the size of files that this process may write, the test's own output included: a disk that fills up."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_every_writer_survives_a_disk_that_fills_up(tmp_path: Path) -> None:
    """Checkpoint, weights and estimators share one way to disk."""
    tensor = {"x": torch.zeros(1000)}
    writers: dict[str, Callable[[Path], None]] = {
        "a.ckpt": lambda path: write_checkpoint(path, tensor),
        "a.safetensors": lambda path: write(path, tensor, {}),
    }
    for name, writer in writers.items():
        writer(tmp_path / name)
    before = {name: (tmp_path / name).read_bytes() for name in writers}
    for name, writer in writers.items():
        with small_files(1000), pytest.raises(OSError, match="File too large"):
            writer(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before[name]
    assert sorted(os.listdir(tmp_path)) == sorted(writers)


def test_a_run_on_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No room for a checkpoint: nothing of it is left."""
    monkeypatch.chdir(tmp_path)
    with small_files(12_000):
        status = main([*FIT, "--trainer.max_epochs=2", "--trainer.limit_val_batches=0"])
    assert status == 3
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert lines == ["error: File too large"] or (len(lines) == 1 and lines[0].endswith(": File too large"))
    assert [path.name for path in tmp_path.rglob("*ckpt*")] == []


@pytest.mark.parametrize("kib", [4, 24, 96])
def test_a_run_on_a_small_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], kib: int) -> None:
    """A real disk that fills up, where this process may mount one: at the configuration, a checkpoint or the logs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("mounting a disk is not allowed here")
    try:
        assert main([*FIT, "--trainer.max_epochs=200", f"--run.root={disk}"]) == 3
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("error", "Traceback"))]
        assert len(errors) == 1
        assert errors[0].endswith("No space left on device")
        found = list(disk.rglob("*.ckpt"))
        assert len(found) == 2 or kib < 96
        for path in found:
            assert torch.load(path, weights_only=True)["global_step"] > 0
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_trainer_of_ones_own_writes_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=tmp_path,
    )
    trainer.validate(MeanTask(), MeanData(), verbose=False)
    written = []
    monkeypatch.setattr("tabattn.training.checkpoint_io.write_checkpoint", lambda path, _: written.append(path))
    trainer.save_checkpoint(tmp_path / "deep" / "mine.ckpt")
    assert written == [tmp_path / "deep" / "mine.ckpt"]


def test_a_path_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for path, reason in ((tmp_path / "taken" / "below", "Not a directory"), (tmp_path / "taken", "File exists")):
        with pytest.raises(OSError, match=reason) as raised:
            path.mkdir()
        assert path_problem(raised.value) == f"{path}: {reason}"
    assert path_problem(OSError(36, "File name too long", "v" * 300)) == f"{'v' * 200}...: File name too long"
    assert path_problem(OSError("no path")) is None
    wrapped = RuntimeError("of another kind")
    wrapped.__context__ = FileNotFoundError(2, "No such file or directory", "a")
    assert path_problem(wrapped) is None
