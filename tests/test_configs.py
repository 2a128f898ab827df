"""Every configuration and fragment can be built, and its commands are accepted."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import callbacks  # noqa: F401
import tabattn.tasks  # noqa: F401
from datamodules.prior.dump import __main__ as dump
from tabattn.attention import MECHANISMS
from tabattn.training.cli import CLI
from tests.helpers import MeanTask

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
FRAGMENTS = sorted((ROOT / "configs/attention").glob("*.yaml"))
TRAINERS = sorted((ROOT / "configs/trainer").glob("*.yaml"))
TINY = ["--model=MeanTask", "--data=MeanData"]


class Parsed(CLI):
    """Stops short of building anything: a trainer for hardware that is not there cannot be built."""

    def instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def by_name(path: Path) -> str:
    return path.stem


def test_folders_are_found() -> None:
    assert CONFIGS
    assert {path.stem for path in TRAINERS} == {"cpu", "gpu", "ddp"}


def commands(path: Path, program: str) -> list[list[str]]:
    """Return the arguments of a program wherever the head of a configuration shows how it is called."""
    shown = (line.removeprefix("#   ") for line in path.read_text().splitlines() if line.startswith("#"))
    return [line.removeprefix(program).split() for line in shown if line.startswith(program)]


def needed(path: Path, folder: Path) -> list[str]:
    """Return flags for a file that a configuration needs, made by its own command, only smaller."""
    data = yaml.safe_load(path.read_text())["data"]["class_path"]
    if data == "TabiclPrior":
        pytest.importorskip("tabicl.prior", reason="the extra `priors` is not installed", exc_type=ImportError)
    if data == "MaskedText":
        pytest.importorskip("transformers", minversion="5.0")
        return [f"--data.text={ROOT / 'README.md'}", "--data.vocabulary=300", f"--data.cache_dir={folder}"]
    file = folder / "tasks.h5"
    written = [
        dump.main([*command, "--tasks=2", f"--out={file}"]) for command in commands(path, "python -m datamodules.dump ")
    ]
    assert written in ([], [0])
    return [f"--data.path={file}"] if written else []


@pytest.mark.parametrize("path", CONFIGS, ids=by_name)
def test_commands_of_the_head_are_accepted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the data that they need is not at hand."""
    monkeypatch.chdir(ROOT)
    assert "python " in path.read_text()
    for command in commands(path, "python train.py fit"):
        Parsed(["fit", *command])


@pytest.mark.parametrize("path", CONFIGS, ids=by_name)
def test_config_builds(path: Path, tmp_path: Path) -> None:
    quiet = ["--trainer.accelerator=cpu", "--trainer.logger=false"]
    cli = CLI([f"--config={path}", *needed(path, tmp_path), *quiet], run=False)
    assert any(weight.requires_grad for weight in cli.model.parameters())


@pytest.mark.parametrize("path", FRAGMENTS, ids=by_name)
def test_an_attention_fragment_has_all_arguments(path: Path) -> None:
    fragment = yaml.safe_load(path.read_text())
    attention = fragment["class_path"]
    assert attention.lower() == path.stem
    signature = inspect.signature(MECHANISMS[attention].__init__).parameters.values()
    own = {argument.name: argument.default for argument in signature if argument.kind is argument.KEYWORD_ONLY}
    assert fragment == {"class_path": attention, "init_args": own}


@pytest.mark.parametrize("path", FRAGMENTS, ids=by_name)
def test_attention_fragment_builds(path: Path) -> None:
    model = CLI([*TINY, f"--model.attention={path}", "--trainer.accelerator=cpu"], run=False).model
    assert isinstance(model, MeanTask)
    assert type(model.mix.mechanism).__name__.lower() == path.stem


@pytest.mark.parametrize("path", TRAINERS, ids=by_name)
def test_trainer_fragment_is_accepted(path: Path) -> None:
    config = Parsed([*TINY, f"--trainer={path}"], run=False).config.trainer
    for name, value in yaml.safe_load(path.read_text()).items():
        assert config[name] == value


def test_front_door() -> None:
    command = [sys.executable, "train.py", "fit", "--config=configs/prior.yaml", "--model.attention=Local"]
    result = subprocess.run([*command, "--print_config"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert yaml.safe_load(result.stdout)["model"]["init_args"]["attention"]["class_path"] == "tabattn.attention.Local"


@pytest.mark.parametrize("path", CONFIGS, ids=by_name)
def test_moving_averages_leave_buffers_alone(path: Path) -> None:
    """Averages over time of whole numbers are truncated, and those of what is measured once are of its first values."""
    given = (yaml.safe_load(path.read_text()).get("trainer") or {}).get("callbacks") or []
    for callback in given:
        if callback["class_path"] == "EMAWeightAveraging":
            assert callback["init_args"]["use_buffers"] is False
