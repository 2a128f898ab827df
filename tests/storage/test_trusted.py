"""Class paths in files and on the command line: allowed ones are resolved, others are not imported."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule
from torch.optim import Optimizer

from callbacks import Weights
from tabattn.attention import Local, Mechanism
from tabattn.storage import trusted
from tabattn.tasks import PriorClassification
from tabattn.training.cli import CLI, main
from tests.helpers import MeanTask

TINY = ["fit", "--model=MeanTask", "--data=MeanData", "--trainer.accelerator=cpu", "--trainer.fast_dev_run=true"]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A package beside the program that leaves a file when it is imported, with a mechanism of its own."""
    (tmp_path / "somebody").mkdir()
    (tmp_path / "somebody" / "__init__.py").write_text(
        "import pathlib\n"
        "from tabattn.attention import Softmax\n"
        f"pathlib.Path({str(tmp_path / 'imported')!r}).touch()\n"
        "class Theirs(Softmax):\n"
        "    pass\n"
        "def theirs(heads: int, dim: int) -> Softmax:\n"
        "    return Softmax(heads, dim)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "somebody", raising=False)
    return tmp_path / "imported"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command line that is refused with status 2."""
    with pytest.raises(SystemExit) as leaving:
        main([*TINY, *arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert leaving.value.code == 2
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    "flag",
    [
        "--model=somebody.Theirs",
        "--model.help=somebody.Theirs",
        "--model.attention=somebody.Theirs",
        "--model.attention.help=somebody.Theirs",
        "--data=somebody.Theirs",
        "--optimizer=somebody.Theirs",
        "--lr_scheduler=somebody.Theirs",
        "--trainer.callbacks+=somebody.Theirs",
        "--trainer.callbacks=[somebody.Theirs]",
        "--trainer.logger={class_path: somebody.Theirs}",
        "--trainer.strategy={class_path: somebody.Theirs}",
        "--trainer.profiler={class_path: somebody.Theirs}",
        "--trainer.plugins=[{class_path: somebody.Theirs}]",
        "--trainer.plugins=somebody.Theirs",
    ],
)
def test_a_package_that_is_not_allowed_is_not_imported(
    capsys: pytest.CaptureFixture[str], foreign: Path, flag: str
) -> None:
    refused(capsys, flag)
    assert not foreign.exists()


def test_the_message_names_both_ways_to_allow(capsys: pytest.CaptureFixture[str], foreign: Path) -> None:
    line = refused(capsys, "--model.attention=somebody.Theirs")
    assert line.startswith("error: model.attention: 'somebody.Theirs' is not imported: ")
    assert line.endswith("if you trust its code, allow its package by --allow somebody or by TABATTN_ALLOW=somebody")


@pytest.mark.parametrize(
    "words", [["--allow", "somebody"], ["--allow=other,somebody"], ["--allow=a", "--allow=somebody"]]
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_what_the_user_allows_is_imported(foreign: Path, words: list[str], place: str) -> None:
    line = [*TINY, "--model.attention=somebody.Theirs"]
    assert main([*words, *line] if place == "before" else [*line, *words]) == 0
    assert foreign.exists()
    assert "somebody" not in trusted.allowed()


def test_what_the_environment_allows_is_imported(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trusted.VARIABLE, " tests, somebody ")
    assert main([*TINY, "--model.attention=somebody.Theirs"]) == 0


def test_python_may_allow_too(foreign: Path) -> None:
    with trusted.allowing([]):
        trusted.allow("somebody")
        assert issubclass(trusted.resolve("somebody.Theirs", Mechanism), Mechanism)  # type: ignore[type-abstract]
    assert "somebody" not in trusted.allowed()


def test_functions_are_refused_though_allowed(capsys: pytest.CaptureFixture[str], foreign: Path) -> None:
    assert "is no class" in refused(capsys, "--allow=somebody", "--model.attention=somebody.theirs")


@pytest.mark.parametrize("words", [["--allow"], ["--allow="], ["--allow", "a-b"], ["--allow=*"], ["--allow=../x"]])
def test_a_wrong_name_to_allow(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main([*TINY, *words]) == 2
    assert "my_package, got" in capsys.readouterr().err


@pytest.mark.parametrize("content", [{"allow": "somebody"}, {"fit": {"allow": "somebody"}}])
def test_a_configuration_cannot_allow(capsys: pytest.CaptureFixture[str], foreign: Path, content: Any) -> None:
    Path("c.yaml").write_text(yaml.safe_dump(content | {"model": {"init_args": {"attention": "somebody.Theirs"}}}))
    refused(capsys, "--config=c.yaml")
    assert not foreign.exists()


def test_the_library_is_as_before(foreign: Path) -> None:
    from jsonargparse import ArgumentParser, _loaders_dumpers, _typehints, _util

    main([*TINY])
    assert vars(_typehints)["import_object"] is _util.import_object
    assert _loaders_dumpers.loaders["yaml"] is _loaders_dumpers.yaml_load
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--call", type=Callable[[int, int], Any])
    assert parser.parse_args(["--call=somebody.theirs"]).call.__name__ == "theirs"


@pytest.mark.parametrize(
    ("path", "base", "found"),
    [
        ("tabattn.attention.Local", Mechanism, Local),
        ("torch.optim.SGD", Optimizer, torch.optim.SGD),
        ("callbacks.Weights", Callback, Weights),
        ("tests.helpers.MeanTask", LightningModule, MeanTask),
        ("tabattn.tasks.PriorClassification", LightningModule, PriorClassification),
    ],
)
def test_resolve(path: str, base: Any, found: type) -> None:
    assert trusted.resolve(path, base) is found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("os.system", "'os.system' is not imported"),
        ("torchx.A", "'torchx.A' is not imported"),
        ("torch._C.Generator", "'torch._C.Generator' is not imported"),
        ("torch.hub.load", "torch.hub.load is no subclass of Optimizer"),
        ("torch.nn.Linear", "torch.nn.Linear is no subclass of Optimizer"),
        ("torch.os.system", "torch.os.system is no subclass of Optimizer"),
        ("torch.optim", "torch.optim is no subclass of Optimizer"),
        ("torch.nowhere.SGD", "no class is called torch.nowhere.SGD"),
        ("torch", "expected the dotted path of a class, got torch"),
        ("torch.optim.", "expected the dotted path of a class"),
        ("torch.optim:SGD", "expected the dotted path of a class"),
        (".torch.optim.SGD", "expected the dotted path of a class"),
        ("torch/../os.system", "expected the dotted path of a class"),
        ("", "expected the dotted path of a class"),
        (None, "expected the dotted path of a class, got None"),
        (["torch.optim.SGD"], "expected the dotted path of a class"),
        ("a\nb.c", "expected the dotted path of a class, got 'a"),
        ("torch." + "x" * 500, "no class is called torch.xxx"),
    ],
)
def test_resolve_refuses(path: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}") as caught:
        trusted.resolve(path, Optimizer)
    assert "\n" not in str(caught.value)


def test_nested_values_are_looked_through() -> None:
    trusted.check_all({"a": [{"class_path": "torch.nn.Linear"}], "b": (1, "os.system")})
    for value in ({"a": [({"class_path": "os.system"},)]}, {"_class_path": "os.system"}, {"class_path": 3}):
        with pytest.raises(ValueError, match=r"is not imported|expected the dotted path"):
            trusted.check_all(value)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested more than 32 deep"):
        trusted.check_all(endless)


def test_a_short_name_of_a_class_that_is_not_allowed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(trusted.VARIABLE)
    assert "'tests.helpers.MeanTask' is not imported" in refused(capsys)
    assert isinstance(CLI([*TINY[1:], "--allow=tests"], run=False).model, MeanTask)


def test_objects_that_can_be_called_are_no_functions(capsys: pytest.CaptureFixture[str]) -> None:
    called = {"class_path": "torch.nn.Identity"}
    callback = {"class_path": "LambdaCallback", "init_args": {"on_fit_start": called}}
    Path("c.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))
    assert "to be a class that instantiates into callable" in refused(capsys, "--config=c.yaml")


@pytest.mark.parametrize("text", ["{{<<: [{}]}}", "[{}]"])
def test_yaml_that_multiplies(capsys: pytest.CaptureFixture[str], text: str) -> None:
    start = "&a {x: 1}" if "<<" in text else "&a [x, x, x, x]"
    lines = [f"a: {start}"]
    for above, name in zip("abcdefg", "bcdefgh", strict=True):
        lines.append(f"{name}: &{name} {text.format(', '.join([f'*{above}'] * 6))}")
    Path("c.yaml").write_text("\n".join(lines))
    assert "it stands for more than 100000 values" in refused(capsys, "--config=c.yaml")


@pytest.mark.parametrize("text", ["model: " + "[" * 5000, "model: " + "[" * 60 + "]" * 60, "model: &a [*a]"])
def test_yaml_that_is_nested_too_deeply(capsys: pytest.CaptureFixture[str], text: str) -> None:
    Path("c.yaml").write_text(text)
    assert "Problems parsing config" in refused(capsys, "--config=c.yaml")


def test_a_long_path_keeps_the_name_of_its_file() -> None:
    assert trusted.shortened_path("runs/best.ckpt") == "runs/best.ckpt"
    long = trusted.shortened_path("/" + "folder/" * 30 + "best.ckpt")
    assert long.startswith("...")
    assert long.endswith("/folder/best.ckpt")
    assert len(long) == 80
    assert trusted.shortened_path("a\nb") == repr("a\nb")
