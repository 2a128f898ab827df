"""README and docs: Python runs, commands parse, links and named files exist."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

import callbacks  # noqa: F401  (makes the names of the commands known)
import datamodules  # noqa: F401
from datamodules.pairs.__main__ import main as plot
from tabattn import tasks
from tabattn.attention.__main__ import table
from tabattn.training.cli import CLI, main

ROOT = Path(__file__).parents[1]
PAGES = {path: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
README = PAGES[ROOT / "README.md"]
BLOCKS = [
    block for text in PAGES.values() for block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
LINKS = sorted({(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(([^):]+)\)", text)})
COMMANDS = [
    line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if line.startswith("python train.py")
]
PLOTS = [
    line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if "datamodules.pairs --plot" in line
]
HELP = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if ".help" in line]


@pytest.mark.parametrize("code", [text for kind, text in BLOCKS if kind == "python"])
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "import" in code
    if "MaskedText" in code:
        pytest.importorskip("transformers", minversion="5.0")
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
    small = ["--data.tables=[sklearn:iris]"] if any(w.endswith("prior.yaml") for w in words) else []
    if any(w.endswith("pairs_table.yaml") for w in words):
        small = [f"--data.path={ROOT / 'examples' / 'rooms.csv'}"]
    if any(w.endswith("mlm.yaml") for w in words):
        pytest.importorskip("transformers", minversion="5.0")
        small = [f"--data.text={ROOT / 'README.md'}", "--data.vocabulary=300"]
    cli = CLI(args=[*words, *small, f"--run.root={tmp_path}"], run=False)
    config = yaml.safe_load(Path(next(w for w in words if w.endswith(".yaml"))).read_text())
    assert type(cli.model).__name__ == config["model"]["class_path"]


@pytest.mark.parametrize("command", PLOTS)
def test_plots_are_written(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert plot([*shlex.split(command)[3:], "--tasks=1"]) == 0
    assert len(list(tmp_path.glob("*.png"))) == 1


@pytest.mark.parametrize("command", HELP)
def test_help_is_as_printed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags are shown as one types them."""
    with pytest.raises(SystemExit) as leaving:
        main(shlex.split(command)[2:])
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    assert text
    assert "init_args" not in text


def test_mechanisms_are_those_of_the_registry() -> None:
    shown = re.search(r"<!-- mechanisms -->\n(.*?)<!-- end of mechanisms -->", README, re.DOTALL)
    assert shown is not None
    assert set(shown[1].strip().splitlines()) <= set(table().splitlines())


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda part: getattr(part, "name", part))
def test_links_lead_somewhere(page: Path, link: str) -> None:
    file, _, anchor = link.partition("#")
    target = page.parent / file if file else page
    assert target.exists()
    if anchor:
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_map_names_every_folder() -> None:
    """But those of a task that the README does not name."""
    rows = README.split("## Where things are")[1].split("\n## ")[0].splitlines()
    named = {name for row in rows for name in re.findall(r"`([\w./*]+)`", row.split(" | ")[0])}
    assert all(list(ROOT.glob(name)) or list((ROOT / "tabattn").glob(name)) for name in named)
    folders = [*ROOT.iterdir(), *(ROOT / "tabattn").iterdir(), *(ROOT / "datamodules").iterdir()]
    unsaid = {getattr(tasks, name).__module__.split(".")[1] for name in tasks.__all__ if f"`{name}`" not in README}
    shown = {
        folder
        for folder in folders
        if folder.name not in unsaid and (any(folder.glob("*.py")) or any(folder.glob("*.yaml")))
    }
    assert {f"{folder.relative_to(ROOT)}/" for folder in shown} <= named | {"tabattn/", "datamodules/"}


NAMED = sorted({name for text in PAGES.values() for name in re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", text)})


@pytest.mark.parametrize("name", NAMED)
def test_tests_that_are_named_exist(name: str) -> None:
    file, _, function = name.partition("::")
    assert f"def {function}" in (ROOT / file).read_text()
