"""Command that generates and imports zoos: files, messages and exit statuses."""

from pathlib import Path

import pytest
import torch
from torch import nn

from datamodules.zoo import __main__ as command
from datamodules.zoo.zoo_file import read_zoo
from tabattn.contract.errors import TableWarning


def run(*arguments: str) -> int:
    return command.main(list(arguments))


def test_the_command_generates_a_zoo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"{tmp_path}/a.h5"
    common = ("--networks", "12", "--tasks", "2", "--steps", "10", "--out", path)
    assert run(*common) == 0
    output = capsys.readouterr()
    assert f"{path}: 48 networks of 12 runs on 2 tasks, " in output.out
    assert "12/12" in output.err
    assert run("--check", path) == 0
    assert run(*common) == 2
    assert capsys.readouterr().err == f"error: {path} exists: give another name, or --overwrite\n"
    assert read_zoo(Path(path)).facts["plan"]["steps"] == 10


def test_the_command_imports_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nets").mkdir()
    for number in range(3):
        network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
        torch.save(network.state_dict(), tmp_path / f"nets/{number}.pt")
    common = ("--import", f"{tmp_path}/nets", "--architecture", "4-16relu-3", "--out", f"{tmp_path}/iris.h5")
    assert run(*common, "--table", "sklearn:iris") == 0
    assert "3 networks of 3 runs on 1 tasks, 1 architectures; 0 are dead" in capsys.readouterr().out
    zoo = read_zoo(tmp_path / "iris.h5")
    assert zoo.tasks.classes.tolist() == [3]
    assert run(*common, "--table", "sklearn:diabetes", "--overwrite") == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/nets/0.pt has 4 inputs and 3 outputs, its table has 10 columns and 1 targets\n"
    )
    (tmp_path / "a.csv").write_text("a,b,c\n" + "1,x,2\n" * 20)
    assert run(*common, "--table", f"{tmp_path}/a.csv", "--overwrite") == 2
    assert "column 'b' of" in capsys.readouterr().err
    assert run(*common, "--table", f"{tmp_path}/a.csv::d", "--overwrite") == 2
    assert "has no target 'd'" in capsys.readouterr().err


def test_the_target_of_an_imported_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbered classes are told by the outputs, words are classes; either may be said."""
    for outputs in (1, 3):
        (tmp_path / f"{outputs}").mkdir()
        torch.save(nn.Linear(2, outputs).state_dict(), tmp_path / f"{outputs}/a.pt")
    rows = [f"{number},{number % 7},{number % 3},{'xyz'[number % 3]},{number % 2}" for number in range(30)]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,three,word,two", *rows, ""]))
    for name in ("three", "word", "two"):
        kept = {"three": [0, 1, 2], "word": [0, 1, 3], "two": [0, 1, 4]}[name]
        lines = [",".join(row.split(",")[place] for place in kept) for row in ["a,b,three,word,two", *rows]]
        (tmp_path / f"{name}.csv").write_text("\n".join([*lines, ""]))

    def imported(outputs: int, name: str, *more: str) -> int:
        words = ("--import", f"{tmp_path}/{outputs}", "--architecture", "relu", "--table", f"{tmp_path}/{name}.csv")
        return run(*words, "--out", f"{tmp_path}/zoo.h5", "--overwrite", *more)

    def classes() -> int:
        return int(read_zoo(tmp_path / "zoo.h5").tasks.classes[0])

    with pytest.warns(TableWarning, match="3 whole numbers and its networks 3 outputs: read as classes"):
        assert imported(3, "three") == 0
    assert classes() == 3
    assert imported(3, "three", "--target", "classes") == 0
    assert imported(3, "word") == 0
    assert classes() == 3
    with pytest.warns(TableWarning, match="two whole numbers and its networks one output: read as numbers"):
        assert imported(1, "two") == 0
    assert classes() == 0
    assert imported(1, "two", "--target", "numbers") == 0
    assert classes() == 0
    assert imported(1, "two", "--target", "classes") == 0
    assert classes() == 2
    capsys.readouterr()
    assert imported(3, "three", "--target", "numbers") == 2
    assert "has 2 inputs and 3 outputs, its table has 2 columns and 1 targets" in capsys.readouterr().err
    assert imported(3, "word", "--target", "numbers") == 2
    assert "target 'word' of" in (told := capsys.readouterr().err)
    assert "is no number, so it can be classes only" in told
    (tmp_path / "word.csv").write_text((tmp_path / "word.csv").read_text() + "1,2,\n")
    assert imported(3, "word") == 2
    assert "is missing in 1 rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "1"], "networks must be at least 10, got 1"),
        (["--import", "nets", "--table", "sklearn:iris"], "--import needs --architecture"),
        (["--table", "sklearn:iris"], "--table goes with --import only"),
        (["--target", "classes"], "--target goes with --import only"),
        (
            [
                "--import",
                "nets",
                "--architecture",
                "4-3",
                "--table",
                "sklearn:iris",
                "--networks",
                "30",
                "--steps",
                "9",
            ],
            "--networks, --steps: not used with --import",
        ),
        (["--check", "a.h5", "--import", "nets", "--seed", "3"], "--seed, --import: not used with --check"),
        (["--device", "none"], "device must be one of this machine, such as cpu, got 'none'"),
        (["--device", "meta"], "device must be one of this machine, such as cpu, got 'meta'"),
        (["--networks", f"{10**10}"], "networks must be at most 2147483647, got 10000000000"),
        (["--tasks", f"{10**10}"], "tasks must be at most 2147483647, got 10000000000"),
        (["--seed", f"{2**63}"], "seed must be at most 9223372036854775807, got 9223372036854775808"),
    ],
)
def test_wrong_arguments_end_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    out = [] if "--check" in arguments else ["--out", f"{tmp_path}/a.h5"]
    assert run(*arguments, *out) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_read_or_written_ends_with_status_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.h5").write_bytes(b"text")
    assert run("--check", f"{tmp_path}/a.h5") == 3
    assert capsys.readouterr().err == f"error: {tmp_path}/a.h5 cannot be read: it is not an HDF5 file\n"
    assert run("--networks", "10", "--steps", "10", "--out", f"{tmp_path}/a.h5/b.h5") == 3
    assert "cannot be written: Not a directory" in capsys.readouterr().err


def test_what_is_no_file_is_refused_before_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["--overwrite"], []):
        assert run("--networks", "10", "--out", str(tmp_path), *given) == 2
        assert capsys.readouterr().err == f"error: {tmp_path} is no file: give another name\n"
    assert run("--check", str(tmp_path)) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is a folder: give the file of a zoo\n"
    assert run("--networks", "10", "--out", f"{tmp_path}/{'x' * 300}") == 3
    assert capsys.readouterr().err.endswith("cannot be written: File name too long\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [MemoryError("9 EiB"), RuntimeError("can't allocate memory: 9 EiB")])
def test_too_little_memory_ends_with_status_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: Exception
) -> None:
    def full(*args: object) -> None:
        raise wrong

    monkeypatch.setattr(command, "generate", full)
    assert run("--out", f"{tmp_path}/a.h5") == 3
    assert capsys.readouterr().err.endswith(f"error: not enough memory: {wrong}\n")
    wrong = RuntimeError("another fault")
    with pytest.raises(RuntimeError, match="another fault"):
        run("--out", f"{tmp_path}/a.h5")


def test_an_interrupt_ends_with_status_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "generate", interrupted)
    assert run("--out", f"{tmp_path}/a.h5") == 130


def test_the_help_explains_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run("--help")
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "python -m datamodules.zoo --networks 20000 --out zoo.h5" in text
    assert "Exit status" in text
    missing = [action.dest for action in command.parser()._actions if not action.help]
    assert missing == []
