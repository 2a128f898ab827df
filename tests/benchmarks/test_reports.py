"""Output paths and argument checks of all benchmarks."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import (
    adult,
    attention,
    attention_law,
    challenge,
    compare_kills,
    convert_parity,
    drop,
    ett,
    imputation,
    kills,
    lookup,
    npt_golden,
    npt_original,
    openml,
    originals,
    pairs_sweep,
    plots,
    predict_cache,
    prior_rows,
    prior_step,
    prior_throughput,
    prior_variants,
    reconstruction,
    reconstruction_sweep,
    regression,
    reports,
    row_interactions,
    sequence_inferrer,
    sparsefinder_parity,
    sparsity,
    sparsity_heads,
    steps,
    swap,
    tnp,
    trajectories,
    zoo,
    zoo_iris,
    zoo_tables,
    zoo_vae,
)

Program = Callable[[list[str]], argparse.Namespace]

PROGRAMS: dict[str, tuple[Program, list[str], str]] = {
    "adult": (adult.arguments, ["table.csv"], ""),
    "attention": (attention.arguments, [], ".md"),
    "attention_law": (attention_law.arguments, [], ".md"),
    "challenge": (challenge.arguments, [], ".md"),
    "compare_kills": (compare_kills.arguments, ["--folder", "{folder}"], ".md"),
    "convert": (convert_parity.arguments, ["--original", "{checkout}"], ".md"),
    "drop": (drop.arguments, [], ".png"),
    "ett": (ett.arguments, ["ETTh1.csv"], ".md"),
    "imputation": (imputation.arguments, ["--tables", "{folder}"], ".md"),
    "lookup": (lookup.arguments, [], ".md"),
    "npt_golden": (npt_golden.arguments, ["--original", "{checkout}"], ".json"),
    "npt_original": (npt_original.arguments, ["--original", "{checkout}"], ".md"),
    "openml": (openml.arguments, ["{folder}"], ".md"),
    "originals": (originals.arguments, [], ".md"),
    "pairs_sweep": (pairs_sweep.arguments, [], ".md"),
    "predict_cache": (predict_cache.arguments, [], ".md"),
    "prior_step": (prior_step.arguments, [], ".md"),
    "prior_throughput": (prior_throughput.arguments, [], ".md"),
    "reconstruction": (reconstruction.arguments, ["sklearn:wine"], ".md"),
    "reconstruction_sweep": (reconstruction_sweep.arguments, ["sklearn:wine"], ".md"),
    "regression": (regression.arguments, ["sklearn:diabetes"], ".md"),
    "row_interactions": (row_interactions.arguments, ["corruption", "--run", "{checkout}"], ".md"),
    "sequence_inferrer": (sequence_inferrer.arguments, [], ".md"),
    "sparsefinder_parity": (sparsefinder_parity.arguments, [], ".md"),
    "sparsity": (sparsity.arguments, [], ".md"),
    "sparsity_heads": (sparsity_heads.arguments, ["queries_keys.h5"], ".md"),
    "steps": (steps.arguments, [], ".md"),
    "swap": (swap.arguments, [], ".md"),
    "tnp": (tnp.arguments, [], ".md"),
    "trajectories": (trajectories.arguments, [], ".png"),
    "zoo": (zoo.arguments, [], ".md"),
    "zoo_iris": (zoo_iris.arguments, [], ".md"),
    "zoo_tables": (zoo_tables.arguments, ["--checkpoint", "{checkout}/checkpoints/best.ckpt"], ".md"),
    "zoo_vae": (zoo_vae.arguments, [], ".md"),
}
"""Programs with a report: how they read their command line, what they need on it, and the ending of ``--out``."""


@pytest.fixture(params=list(PROGRAMS))
def program(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Program, str]:
    """Reads a command line with all that is needed; the ending of the report."""
    read, needed, suffix = PROGRAMS[request.param]
    checkout, folder = tmp_path / "checkout", tmp_path / "tables"
    checkout.mkdir()
    for file in ("model.py", "npt/model/npt.py", "config.yaml", "checkpoints/best.ckpt"):
        (checkout / file).parent.mkdir(parents=True, exist_ok=True)
        (checkout / file).touch()
    folder.mkdir()
    (folder / "index.csv").write_text("name,file,target\n")
    words = [word.format(checkout=checkout, folder=folder) for word in needed]
    return lambda argv: read([*words, *argv]), suffix


def test_every_program_with_a_report_is_here() -> None:
    folder = Path(reports.__file__).parent
    writing = {path.stem for path in folder.glob("*.py") if "add_out(" in path.read_text()} - {"reports"}
    assert writing == {"convert_parity" if name == "convert" else name for name in PROGRAMS}


def test_reports_go_to_a_folder_that_is_not_tracked(program: tuple[Program, str]) -> None:
    read, suffix = program
    out = read([]).out
    assert out.parent == reports.FOLDER == Path("runs", "benchmarks")
    assert out.suffix == suffix
    assert "runs/" in (Path(reports.__file__).parents[1] / ".gitignore").read_text().splitlines()


def test_pictures_of_trainings_do_too() -> None:
    assert plots.OUT.parent == reports.FOLDER


def test_the_honest_experiment_has_a_report_of_its_own() -> None:
    assert adult.arguments(["table.csv", "--honest"]).out == reports.FOLDER / "adult_honest"
    assert adult.arguments(["table.csv", "--honest", "--out=docs/x"]).out == Path("docs/x")


def test_an_out_that_cannot_be_is_refused(
    program: tuple[Program, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read, suffix = program
    assert read([f"--out={tmp_path / 'new' / f'x{suffix}'}"]).out == tmp_path / "new" / f"x{suffix}"
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    for ending in {suffix, ".md"}:
        (tmp_path / f"taken{ending}").mkdir(exist_ok=True)
    for out, message in (
        (tmp_path / "x.doc", f"must be a file that ends in {suffix or 'no suffix'}, got "),
        (tmp_path / "file" / f"x{suffix}", f"{tmp_path / 'file'} is no folder"),
        (tmp_path / f"taken{suffix}", " is a folder"),
    ):
        with pytest.raises(SystemExit) as caught:
            read([f"--out={out}"])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err.replace("\n", " ")


def test_what_permissions_forbid_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(argparse.ArgumentTypeError, match=f"x.md: {tmp_path} cannot be written"):
        reports.check_writable(tmp_path / "new" / "x.md")
    (tmp_path / "x.md").touch()
    reports.check_writable(tmp_path / "x.md")


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("drop", ["--tasks=0"], "tasks must be at least 1, got 0"),
        ("drop", ["--samples=0"], "samples must be at least 1, got 0"),
        ("drop", ["--model.network.residual=nearest"], "--model.network.residual is not to be chosen: it is what"),
        (
            "drop",
            ["--model.init_args.network=SeedNetwork"],
            "--model.init_args.network is not to be chosen: it is what",
        ),
        ("drop", ["--trainer.max_steps=3"], "--trainer.max_steps is not to be chosen: it is what"),
        ("drop", ["--step=3"], "unrecognized argument --step=3"),
        ("ett", ["--data.windows.length=32"], "--data.windows.length is not to be chosen: it is what"),
        ("pairs_sweep", ["--processes=0"], "processes must be at least 1, got 0"),
        ("pairs_sweep", ["--model.attention=Local"], "--model.attention is not to be chosen: it is what"),
        ("adult", ["--model.target_attention=Local"], "--model.target_attention is not to be chosen: it is what"),
        ("adult", ["--seconds=nan"], "seconds must be greater than 0, got nan"),
        ("steps", ["--lr_scheduler=null"], "--lr_scheduler is not to be chosen: it is what"),
        ("prior_step", ["--steps=0"], "steps must be at least 1, got 0"),
        ("prior_step", ["--original=none"], "original: none is no checkout of it: there is no none/model.py"),
        ("tnp", ["--seeds=0"], "seeds must be at least 1, got 0"),
        ("tnp", ["--workers=-1"], "workers must be at least 0, got -1"),
        ("tnp", ["--original=none"], "there is no none/regression/models/tnpd.py"),
        ("tnp", ["--graphs"], "--graphs needs --device=cuda, got cpu"),
        ("trajectories", ["--points", "24", "3"], "points must be at least 4, got 3"),
        ("trajectories", ["--data.context=8"], "--data.context is not to be chosen: it is what"),
        ("convert", ["--original=none"], "there is no none/model.py"),
        ("predict_cache", ["--model=none.ckpt"], "model: there is no file none.ckpt"),
        ("predict_cache", ["--targets", "3", "0"], "targets must be at least 1, got 0"),
        ("attention", ["--device=cuda:7"], "device cuda:7: there are 0 CUDA devices"),
    ],
)
def test_wrong_arguments_are_told_at_once(
    name: str, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    read, needed, _ = PROGRAMS[name]
    with pytest.raises(SystemExit) as caught:
        read([*needed, *words])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_arguments_of_a_mechanism_are_its_own() -> None:
    assert pairs_sweep.arguments(["--model.attention.window=4"]).further == ["--model.attention.window=4"]


@pytest.mark.parametrize("program", [drop, pairs_sweep], ids=["drop", "pairs_sweep"])
def test_a_mistake_in_a_later_network_comes_before_the_first_training(
    program: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[object] = []
    monkeypatch.setattr(program, "train", lambda *given: trained.append(given))
    out = tmp_path / ("drop.png" if program is drop else "sweep.md")
    only_later = "--model.network.components=0" if program is drop else "--model.attention.window=4"
    words = [f"--out={out}", only_later, "--trainer.accelerator=cpu"]
    if program is pairs_sweep:
        words += ["--attentions", "Local", "Softmax"]
    with pytest.raises(SystemExit) as caught:
        program.main(words)  # type: ignore[attr-defined]
    assert caught.value.code == 2
    assert not trained
    assert not out.exists()


def test_more_tasks_than_there_are_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drop, "train", lambda *_: pytest.fail("trained"))
    words = [f"--out={tmp_path / 'drop.png'}", "--tasks=5", "--data.batch_size=4", "--trainer.accelerator=cpu"]
    with pytest.raises(SystemExit, match="tasks must be at most 4, the batch of test tasks, got 5"):
        drop.main(words)


@pytest.mark.parametrize(
    ("read", "words", "said"),
    [
        (prior_rows.arguments, ["--out={file}"], "is a file"),
        (prior_rows.arguments, ["--rows=1"], "rows must be at least 2"),
        (prior_variants.arguments, ["--out={file}"], "is a file"),
        (prior_variants.arguments, ["--tables={folder}"], "there is no"),
        (prior_variants.arguments, ["--config={folder}/none.yaml"], "config: there is no file"),
        (prior_variants.arguments, ["--seconds=0"], "seconds must be greater than 0"),
        (prior_variants.arguments, ["--fall=1"], "fall must be in"),
        (prior_variants.arguments, ["--views=0"], "views must be at least 1"),
        (prior_variants.arguments, ["--device=cuda:99"], "CUDA devices"),
        (kills.main, ["--folder={file}"], "is a file"),
        (kills.main, ["--folder={folder}", "--kills=0"], "kills must be at least 1"),
        (plots.main, ["history.csv", "--out={file}"], "is a file"),
        (adult.arguments, ["table.csv", "--runs={file}"], "is a file"),
        (tnp.arguments, ["--folder={file}"], "is a file"),
    ],
)
def test_other_programs_refuse_before_they_begin(
    read: Callable[[list[str]], object], words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as left:
        read([word.format(file=tmp_path / "file", folder=tmp_path) for word in words])
    assert left.value.code == 2
    assert said in capsys.readouterr().err
