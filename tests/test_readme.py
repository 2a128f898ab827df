"""What the README shows is true: its Python runs, its commands parse, its table is the one the module writes."""

import re
import shlex
from pathlib import Path

import pytest

import callbacks  # noqa: F401  (makes the names of the commands known)
import datamodules  # noqa: F401
import tabattn.tasks  # noqa: F401
from tabattn.attention.__main__ import table
from tabattn.cli import CLI

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line.startswith("python train.py")
]


@pytest.mark.parametrize("code", [text for kind, text in BLOCKS if kind == "python"])
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "import" in code
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_build(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything a command describes is built; what it says of an earlier run's files is left out."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[3:]
    if "--ckpt_path" in words:
        at = words.index("--ckpt_path")
        del words[at : at + 2]
    words = [w for w in words if not w.startswith("--model.init_from")]
    words = [str(ROOT / w) if w.startswith("configs/") else w for w in words]
    words = [str(ROOT / "configs/prior.yaml") if w.startswith("runs/") else w for w in words]
    cli = CLI(args=[*words, "--data.tables=[sklearn:iris]", f"--run.root={tmp_path}"], run=False)
    assert type(cli.model).__name__ == "PriorClassification"


def test_mechanisms_are_those_of_the_registry() -> None:
    shown = re.search(r"<!-- mechanisms -->\n(.*?)<!-- end of mechanisms -->", README, re.DOTALL)
    assert shown is not None
    assert shown[1].strip() == table().strip()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()
