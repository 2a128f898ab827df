"""Messages of the parser about mistakes, and help."""

from argparse import ArgumentError
from pathlib import Path

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException

from tabattn.attention import MECHANISMS
from tabattn.attention.choice import ELSEWHERE, as_factory, called
from tabattn.training.cli import CLI, main
from tabattn.training.parser import nearest, tidy
from tests import helpers

TINY = ["fit", "--model=MeanTask", "--data=MeanData", "--trainer.accelerator=cpu"]


def message(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a refused command line says, having checked that it is one line and that the status is 2."""
    with pytest.raises(SystemExit) as leaving:
        main([*TINY, *arguments] if arguments[0].startswith("--") else list(arguments))
    lines = [line for line in capsys.readouterr().err.splitlines() if "Seed set to" not in line]
    assert leaving.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the help that a command line prints, its line breaks and indents made one space."""
    with pytest.raises(SystemExit) as leaving:
        main(list(arguments))
    assert leaving.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("flag", "start", "family", "known", "end"),
    [
        ("--model.attention=near", "model.attention: ", "attention mechanisms", "Softmax", "Near"),
        ("--model=MeanTsk", "model: ", "tasks", "MeanTask", "MeanTask"),
        ("--data=meandata", "data: ", "datamodules", "MeanData", "MeanData"),
        ("--trainer.callbacks+=EarlyStoping", "trainer.callbacks: ", "callbacks", "Trouble", "EarlyStopping"),
        ("--optimizer=adamW", "optimizer: ", "optimizers", "SGD", "AdamW"),
        ("--lr_scheduler=WarmCosine", "lr_scheduler: ", "schedules", "StepLR", "WarmupCosine"),
    ],
)
def test_unknown_class(
    capsys: pytest.CaptureFixture[str], flag: str, start: str, family: str, known: str, end: str
) -> None:
    text = message(capsys, flag)
    head, _, names = text.partition(f"; {family}: ")
    assert head == f"{start}no class is called '{flag.partition('=')[2]}'"
    assert known in names.partition(" (")[0].split(", ")
    assert names.endswith(f"(did you mean {end}?)")


def test_lists_name_what_can_be_built(capsys: pytest.CaptureFixture[str]) -> None:
    text = message(capsys, "--model=Nothing")
    assert "LightningModule" not in text
    assert "BoringModel" not in text
    assert "Mechanism," not in message(capsys, "--model.attention=Nothing")


def test_unknown_class_without_a_near_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean" not in message(capsys, "--model.attention=Xylophone")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Original", "Original is Softmax here"),
        ("original", "Original is Softmax here"),
        ("Optimized Local", "Optimized Local is Local here"),
        ("optimized_local", "Optimized Local is Local here"),
        ("Einstein", "Einstein is Sparse here"),
    ],
)
def test_names_of_other_programs(capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    text = message(capsys, f"--model.attention={name}")
    assert text.startswith(f"model.attention: no class is called '{name}'; attention mechanisms: ")
    assert text.endswith(f" ({said})")
    assert "is Softmax here" not in message(capsys, "--model=Original")
    with pytest.raises(ValueError, match=f"got '{name}' .{said}.$"):
        as_factory(name)


def test_other_names_lead_to_mechanisms() -> None:
    assert set(ELSEWHERE.values()) <= set(MECHANISMS)
    assert not set(ELSEWHERE) & set(MECHANISMS)
    assert called("Local") == ""


def test_only_mechanisms_of_the_registry_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    import tabattn.attention.swap  # noqa: F401 - has a mechanism of its own

    listed = message(capsys, "--model.attention=Nothing").partition("attention mechanisms: ")[2]
    assert set(listed.split(", ")) >= set(MECHANISMS)
    assert "OneSequence" not in listed


def test_wrong_path(capsys: pytest.CaptureFixture[str]) -> None:
    text = message(capsys, "--model.attention=tests.helpers.Neer")
    assert text.startswith("model.attention: module 'tests.helpers' has no attribute 'Neer'; attention mechanisms: ")
    assert text.endswith("(did you mean Near?)")
    text = message(capsys, "--model.attention=tests.nowhere.far.Near")
    assert text.startswith("model.attention: No module named 'tests.nowhere'; attention mechanisms: ")


def test_class_of_another_kind(capsys: pytest.CaptureFixture[str]) -> None:
    text = message(capsys, "--model.attention=torch.optim.SGD")
    assert text == "model.attention: Expected 'torch.optim.SGD' to be a subclass of Mechanism"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            ["--model.attention=Near", "--model.attention.windw=3"],
            "model.attention: Option 'windw' is not accepted; options: sharp, window (did you mean window?)",
        ),
        (
            ["--model.dimm=3"],
            "model: Option 'dimm' is not accepted; options: attention, dim, fault (did you mean dim?)",
        ),
        (["--model.attention=Near", "--model.attention.window=wide"], "model.attention.window: expected int, got wide"),
        (["--model.attention=Near", "--model.attention.window=0"], "window must be at least 1, got 0"),
        (["--data.size=1"], "size must be at least 2, got 1"),
        (["--trainer.max_epochs=many"], "trainer.max_epochs: expected int, got many"),
        (["--optimizer.lr=-1"], "Invalid learning rate: -1.0"),
        (["--lr_scheduler.warmup=2"], "warmup must be in [0, 1], got 2.0"),
        (["--run.name=../elsewhere"], "a run's name and version must be paths below its root, got ../elsewhere"),
        (["--ckpt_path=nowhere.ckpt"], "ckpt_path: there is no file nowhere.ckpt"),
    ],
)
def test_wrong_argument(capsys: pytest.CaptureFixture[str], flags: list[str], text: str) -> None:
    assert message(capsys, *flags) == text


def test_abbreviations_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    text = message(capsys, "--trainer.max_epoch=3")
    assert text == "unrecognized arguments: --trainer.max_epoch=3 (did you mean --trainer.max_epochs?)"
    assert message(capsys, "--conf=a.yaml").startswith("unrecognized arguments: --conf=a.yaml")
    with pytest.raises(SystemExit):
        CLI([*TINY[1:], "--trainer.max_epoch=3"], run=False)


def test_unknown_key_in_a_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "typo.yaml"
    config.write_text("trainer: {max_epoch: 1}\n")
    text = message(capsys, f"--config={config}")
    assert text == "Subcommand 'fit' does not accept option 'trainer.max_epoch' (did you mean trainer.max_epochs?)"


def test_missing_or_wrong_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert message(capsys, "fit") == "the following arguments are required: --model"
    assert "choose from 'fit', 'validate', 'test', 'predict'" in message(capsys, "train")
    text = message(capsys, "fit", "--model.nothing.help=Near")
    assert text == "unrecognized arguments: --model.nothing.help; choose the class it belongs to first"
    with pytest.raises(SystemExit):
        main(["--model=MeanTask"])
    assert capsys.readouterr().err.endswith("; choose what to do first: fit, validate, test, predict\n")


def test_a_fault_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"^a fault of the program$") as fault:
        CLI([*TINY, "--model.fault=true"])
    assert fault.traceback[-1].path == Path(helpers.__file__)


@pytest.mark.parametrize("flag", ["--model.attention=near", "--data.size=1", "--trainer.devices=0"])
def test_debugging_raises(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    monkeypatch.setenv("JSONARGPARSE_DEBUG", "1")
    with pytest.raises((ArgumentError, ValueError, MisconfigurationException)):
        main([*TINY, flag])


def test_help_of_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "fit", "--model.help", "MeanTask")
    assert "Predicts the mean of a sequence" in text
    assert "--model.dim DIM Width of a token. (type: int, default: 4)" in text
    assert all(f"tabattn.attention.{name}" in text for name in MECHANISMS)


def test_help_of_a_mechanism(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "fit", "--model=MeanTask", "--model.attention.help", "Near")
    assert "Looks at the first keys only" in text
    assert "--model.attention.window WINDOW Reach from the start, in tokens. (type: int, default: 8)" in text
    assert "head_dim" not in text


def test_help_of_a_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "fit", "--help")
    assert "tests.helpers.MeanTask" in text
    assert "tests.helpers.MeanData" in text
    assert "--run.root ROOT Parent folder of all runs." in text
    assert "--checkpoint.monitor" in text


def test_nearest() -> None:
    assert nearest("LOCAL", ["Local", "Linear"]) == " (did you mean Local?)"
    assert nearest("Local", ["Local"]) == ""
    assert nearest("nothing", []) == ""


def test_tidy_keeps_what_it_does_not_know() -> None:
    assert tidy("something else: went wrong") == "something else: went wrong"
