"""A missing optional package is one line that names its extra, and the extra exists."""

import configparser
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tabattn.contract.extras import EXTRAS, missing, remedy
from tabattn.training.cli import main

ROOT = Path(__file__).parents[2]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
TINY = ["--model=MeanTask", "--data=MeanData", "--trainer.accelerator=cpu"]


class Without:
    """Finds no module of a name, as where it is not installed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_every_extra_brings_its_packages() -> None:
    for module, extra in EXTRAS.items():
        names = SETUP["options.extras_require"][extra].replace("-", "_")
        assert re.search(rf"^{module}", names, re.MULTILINE), (module, extra)
    assert set(EXTRAS.values()) == set(SETUP["options.extras_require"]) - {"dev"}


def test_the_readme_names_extras_that_exist() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text().split("| Extra |")[1].split("\n\n")[0], re.M)
    assert set(rows) <= set(SETUP["options.extras_require"])
    assert {"optim", "parquet", "priors", "cli"} <= set(rows)


def test_an_optimizer_of_a_missing_package(monkeypatch: Any, capfd: Any) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "schedulefree"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without("schedulefree"), *sys.meta_path])
    with pytest.raises(SystemExit) as left:
        main(["fit", *TINY, "--optimizer=schedulefree.AdamWScheduleFree"])
    assert left.value.code == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: optimizer: ")
    assert said.endswith("; it comes with an extra: pip install 'tabattn[optim]'")


def test_a_class_that_misses_its_package(monkeypatch: Any, capfd: Any, tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import RichProgressBar

    def refuse(self: object) -> None:
        raise ModuleNotFoundError("`RichProgressBar` requires `rich` >= 10.2.2. Install it by `pip install -U rich`.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RichProgressBar, "__init__", refuse)
    assert main(["fit", *TINY, "--trainer.callbacks+=RichProgressBar"]) == 2
    assert (
        capfd.readouterr().err.strip().splitlines()[-1]
        == "error: the package rich is missing: pip install 'tabattn[cli]'"
    )


def test_another_missing_module_is_a_fault_of_the_program() -> None:
    assert remedy("numpy") is None
    assert missing(ModuleNotFoundError("No module named 'nothing'", name="nothing")) is None
    assert missing(ValueError("rich people")) is None
