"""Packaged configurations from any folder, and modules that shadow packages of this project."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException

from tabattn.training.configurations import CONFIGS, with_packaged

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["fit", "--config", "prior"], ["fit", "--config", str(CONFIGS / "prior.yaml")]),
        (["fit", "--config=prior.yaml"], ["fit", f"--config={CONFIGS / 'prior.yaml'}"]),
        (["fit", "-c", "experiments/adult"], ["fit", "-c", str(CONFIGS / "experiments/adult.yaml")]),
        (["--trainer=configs/trainer/cpu.yaml"], [f"--trainer={CONFIGS / 'trainer/cpu.yaml'}"]),
        (["fit", "--config={model: prior}", "prior"], ["fit", "--config={model: prior}", "prior"]),
        (["--run.name=prior", "--x=configs/../setup.cfg"], ["--run.name=prior", "--x=configs/../setup.cfg"]),
    ],
)
def test_names_of_the_packages_configurations(words: list[str], found: list[str]) -> None:
    assert with_packaged(words) == found


def test_a_file_of_the_users_goes_first() -> None:
    Path("prior").write_text("{}")
    assert with_packaged(["--config", "prior"]) == ["--config", "prior"]


def test_a_folder_of_the_same_name_does_not_hide_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prior").mkdir()
    assert with_packaged(["--config", "prior"]) == ["--config", str(CONFIGS / "prior.yaml")]


def test_a_configuration_that_is_not_there_is_one_line() -> None:
    with pytest.raises(MisconfigurationException, match=r"config: there is no file priro, .*pairs, .* mean prior\?"):
        with_packaged(["fit", "--config=priro"])


def test_the_wheel_has_every_configuration() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    data = setup["options.package_data"]
    for path in CONFIGS.rglob("*.yaml"):
        assert data[".".join(path.relative_to(ROOT).parent.parts)] == "*.yaml"


@pytest.mark.parametrize(
    "name", ["callbacks.py", "datamodules/__init__.py", pytest.param("datamodules/mine.py", marks=pytest.mark.slow)]
)
def test_a_module_that_hides_ours_is_one_line(name: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).touch()
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['', {str(ROOT)!r}]; import tabattn.cli"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    package = name.partition("/")[0].removesuffix(".py")
    if name.endswith("mine.py"):
        # A folder that is no package hides nothing.
        assert result.returncode == 0, result.stderr
        return
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: the package {package} of tabattn is hidden by ")
