"""Paths and content of ``--ckpt_path``: accepted, refused in one line, and what a checkpoint may touch."""

import os
import shutil
import zipfile
from functools import partial, reduce
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch

import datamodules  # noqa: F401  (makes the names of the command line known)
from tabattn import TabularClassifier
from tabattn.attention import MECHANISMS
from tabattn.contract.errors import DataError
from tabattn.prior import weights
from tabattn.prior.network import PriorNetwork
from tabattn.storage.checkpoint_files import MECHANISM_SIZES, read
from tabattn.storage.trusted import VARIABLE, shortened
from tabattn.tasks import PairInference, PriorClassification
from tabattn.training.cli import CLI, main
from tests.helpers import MeanData, MeanTask

TINY = [f"--model={MeanTask.__name__}", f"--data={MeanData.__name__}", "--trainer.accelerator=cpu"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
FIT = ["fit", *TINY, *QUIET, "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1"]
SMALL: dict[str, Any] = {"dim": 8, "heads": 2, "hidden": 8, "layers": 1, "classes": 4}
PRIOR = ["--model=PriorClassification", *(f"--model.network.{name}={value}" for name, value in SMALL.items())]

REMOTE = [
    "http://127.0.0.1:9/a.ckpt",
    "https://example.org/a.ckpt",
    "s3://bucket/a.ckpt",
    "gs://bucket/a.ckpt",
    "memory://a.ckpt",
    "file:///tmp/a.ckpt",
    "simplecache::http://127.0.0.1:9/a.ckpt",
    "HTTP://127.0.0.1:9/a.ckpt",
    "registry:somebody/a",
]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a training, made once for the tests that only change a copy of its checkpoint."""
    folder = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv(VARIABLE, "tests")
        main([*FIT, "--checkpoint.monitor=val/loss"])
    return folder / "runs"


@pytest.fixture
def run(once: Path, tmp_path: Path) -> Path:
    """Copy of the folder of that training, in the folder of the test."""
    shutil.copytree(once, tmp_path / "runs")
    return tmp_path / "runs" / "tiny" / "Softmax" / "version_0"


def status(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else -1


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The status of a command line that is refused, and its one line."""
    capsys.readouterr()
    code = status(*arguments)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return code, lines[0].removeprefix("error: ")


def prior(path: str, **changes: Any) -> Path:
    """A checkpoint of a small ``PriorClassification``, with some hyperparameters changed; None = left out."""
    task = PriorClassification(partial(PriorNetwork, **SMALL))
    checkpoint: dict[str, Any] = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": task.state_dict(),
        "hyper_parameters": dict(task.hparams),
    }
    task.on_save_checkpoint(checkpoint)
    given = checkpoint["hyper_parameters"]
    for name, value in changes.items():
        of_network = name.removesuffix("s") in {*SMALL, "clas", "layer", "head"} or name in SMALL
        (given["network"]["init_args"] if of_network else given)[name] = value
    torch.save(checkpoint, path)
    return Path(path)


@pytest.mark.parametrize("command", ["fit", "test"])
@pytest.mark.parametrize("path", REMOTE)
def test_urls_are_refused(capsys: pytest.CaptureFixture[str], command: str, path: str) -> None:
    code, line = answer(capsys, command, *TINY, f"--ckpt_path={path}")
    assert code == 2
    assert line == f"ckpt_path: {path} is a URL, and checkpoints are read from local files only"


@pytest.mark.parametrize("path", REMOTE)
def test_urls_are_refused_from_python(path: str) -> None:
    for call in (
        lambda: PriorClassification.load_from_checkpoint(path),
        lambda: PriorClassification(partial(PriorNetwork, **SMALL), init_from=path),
        lambda: weights.load_network(path),
        lambda: weights.read_checkpoint(path),
        lambda: TabularClassifier(path).fit([[0.0], [1.0]], [0, 1]),
    ):
        with pytest.raises(ValueError, match="is a URL, and checkpoints are read from local files only"):
            call()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("gone.ckpt", "there is no file gone.ckpt"),
        ("gone/a.ckpt", "there is no file gone/a.ckpt"),
        (".", ". is a folder, a checkpoint is a file"),
        (os.devnull, f"{os.devnull} is no regular file, a checkpoint is a file"),
        ("x" * 300, "..." + "x" * 77 + " cannot be opened: File name too long"),
        (
            "best",
            "'best' is a checkpoint of this run's own folder, and a new run has none: give its path, or the folder",
        ),
        (
            "last",
            "'last' is a checkpoint of this run's own folder, and a new run has none: give its path, or the folder",
        ),
        ("hpc", "'hpc' is the checkpoint of a stopped job, and . has none: give a path"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict"])
def test_what_is_not_there(capsys: pytest.CaptureFixture[str], command: str, path: str, text: str) -> None:
    code, line = answer(capsys, command, *TINY, f"--ckpt_path={path}")
    assert code == 2
    assert line.startswith(f"ckpt_path: {text}")
    assert not Path("runs").exists()


def test_a_text_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text").write_text("no checkpoint")
    assert answer(capsys, "test", *TINY, "--ckpt_path=text") == (
        3,
        "ckpt_path: text cannot be read as a checkpoint: File is not a zip file",
    )


@pytest.mark.parametrize(
    ("flag", "start"),
    [
        (f"--run.version={'x' * 300}", "run: the folder cannot be made below runs/tiny/Softmax: File name too long"),
        ("--run.root=file", "run: the folder cannot be made below file/tiny/Softmax: "),
        (f"--run.name={'x' * 300}", "run: the folder cannot be made below "),
        ("--checkpoint.dirpath=file/below", "checkpoint.dirpath: the folder cannot be made below file/below: "),
        ("--run.name=a\0b", "embedded null byte"),
    ],
)
def test_folders_that_cannot_be(capsys: pytest.CaptureFixture[str], flag: str, start: str) -> None:
    Path("file").write_text("not a folder")
    code, line = answer(capsys, *FIT, flag)
    assert code == 2
    assert line.startswith(start)


@pytest.mark.parametrize("word", ["best", "last"])
def test_words_mean_the_run_that_is_named(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert main([*FIT, "--run.version=mine"]) == 0
    named = [f"--ckpt_path={word}", "--checkpoint.dirpath=runs/tiny/Softmax/mine/checkpoints"]
    cli = CLI(["test", *TINY, *QUIET, *named])
    saved = torch.load(f"runs/tiny/Softmax/mine/checkpoints/{word}.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(weight, saved[name]) for name, weight in cli.model.state_dict().items())
    Path(f"runs/tiny/Softmax/mine/checkpoints/{word}.ckpt").unlink()
    code, line = answer(capsys, "test", *TINY, *named)
    assert code == 2
    assert "runs/tiny/Softmax/mine/checkpoints has none" in line


def test_hpc_means_the_latest_of_a_stopped_job() -> None:
    main(FIT)
    for number in (2, 10):
        shutil.copy("runs/tiny/Softmax/version_0/checkpoints/last.ckpt", f"hpc_ckpt_{number}.ckpt")
    cli = CLI(["test", *TINY, *QUIET, "--ckpt_path=hpc"])
    assert cli.config["test"].ckpt_path == "hpc_ckpt_10.ckpt"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"state_dict": None}, "its state_dict is of type NoneType"),
        ({"state_dict": {"a": "b"}}, "its state_dict holds more than tensors by name"),
        ({"hyper_parameters": []}, "its hyper_parameters is of type list"),
        ({"hyper_parameters": {1: 2}}, "the names of its hyper_parameters are not all text"),
        ({"hyper_parameters": {"dims": 4}}, "'dims' is not accepted"),
        ({"hyper_parameters": {"dim": "wide"}}, "dim: expected int, got wide"),
        ({"hyper_parameters": {"dim": [[]]}}, "dim: expected int"),
        ({"hyper_parameters": {"attention": 3}}, "attention: "),
        ({"hyper_parameters": {"attention": {"class_path": "subprocess.getoutput"}}}, "'subprocess.getoutput' is not"),
        ({"hyper_parameters": {"attention": "subprocess.getoutput"}}, "'subprocess.getoutput' is not imported"),
        ({"hyper_parameters": {"attention": "torch.hub.load"}}, "'torch.hub.load' is no class"),
        ({"hyper_parameters": {"_class_path": "os.system"}}, "'os.system' is not imported"),
        ({"hyper_parameters": {"_class_path": "torch.nn.Linear"}}, "torch.nn.Linear is no subclass of LightningModule"),
        ({"hyper_parameters": {"_class_path": 5}}, "expected the dotted path of a class, got 5"),
        ({"loops": {}}, "the checkpoint does not fit this run"),
        ({"optimizer_states": [{}]}, "the checkpoint does not fit this run"),
        ({"optimizer_states": [3]}, "the checkpoint does not fit this run"),
        ({"optimizer_states": [{"param_groups": [3]}]}, "the checkpoint does not fit this run"),
        ({"lr_schedulers": [3]}, "the checkpoint does not fit this run"),
        ({"callbacks": []}, "its callbacks is of type list"),
        ({"pytorch-lightning_version": "not one"}, "the checkpoint does not fit this run"),
        ({"epoch": "many"}, "its epoch is of type str"),
    ],
    ids=str,
)
def test_malformed_parts(run: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], text: str) -> None:
    good = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    for name, value in change.items():
        merge = name == "hyper_parameters" and isinstance(value, dict)
        good[name] = good[name] | value if merge else value
    torch.save(good, "bad.ckpt")
    code, line = answer(capsys, *FIT, "--trainer.max_epochs=2", "--ckpt_path=bad.ckpt")
    assert code in (2, 3)
    assert line.startswith("ckpt_path: ")
    assert text in line


def test_a_missing_hyperparameter(capsys: pytest.CaptureFixture[str]) -> None:
    path = prior("a.ckpt")
    content = torch.load(path, weights_only=True)
    del content["hyper_parameters"]["network"]["init_args"]["dim"]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"^a\.ckpt holds no such task: .*size mismatch|network is another"):
        PriorClassification.load_from_checkpoint(path)
    with pytest.raises(ValueError, match=r"a\.ckpt does not hold the network it describes"):
        weights.load_network(path)


NESTED: Any = reduce(lambda inner, _: [inner], range(60), 1)
CYCLE: dict[str, Any] = {}
CYCLE["init_args"] = CYCLE


@pytest.mark.parametrize(
    "changes",
    [
        {"dims": 8},
        {"dim": "wide"},
        {"dim": -8},
        {"dim": 0},
        {"dim": float("nan")},
        {"dim": 1e308},
        {"dim": "x" * 10**6},
        {"dim": None},
        {"heads": 0},
        {"heads": -1},
        {"profile": "x" * 10**6},
        {"target_attention": "x" * 10**6},
        {"target_attention": NESTED},
        {"attention": CYCLE},
        {"permutations": 10**9},
        {"renamings": 10**400},
        {"attention": {"class_path": "tabattn.attention.Pooling", "init_args": {"points": 10**9}}},
        {"layers": 10**7},
        {"hidden": 10**9},
        {"classes": 10**400},
        {"heads": 3},
        {"attention": {"class_path": "tabattn.attention.Local", "init_args": {"windows": 3}}},
        {"attention": {"class_path": "tabattn.attention.Local", "init_args": [3]}},
        {"attention": {"class_path": "subprocess.getoutput", "init_args": {"cmd": "touch pwned"}}},
        {"attention": {"class_path": "torch.hub.load", "init_args": {"repo_or_dir": "a", "model": "b"}}},
        {"_instantiator": "os.system"},
        {"_class_path": "tabattn.tasks.PairInference"},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_hyperparameters_that_do_not_fit(changes: dict[str, Any]) -> None:
    path = prior("a.ckpt", **changes)
    with pytest.raises((ValueError, DataError)) as caught:
        PriorClassification.load_from_checkpoint(path)
    assert str(caught.value).startswith("a.ckpt")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not Path("pwned").exists()


def test_every_argument_that_sizes_a_weight_is_known() -> None:
    """The weights of a mechanism change their shape with no other argument than those that are checked."""
    for name, mechanism in MECHANISMS.items():
        own = {"grouping": "kmeans"} if name == "Sparsefinder" else {}
        for argument, parameter in signature(mechanism).parameters.items():
            if (type(parameter.default) is int or argument == "hidden") and argument not in ("heads", "head_dim"):
                shapes = [[w.shape for w in mechanism(2, 4, **own, **{argument: n}).parameters()] for n in (1, 2)]
                assert (shapes[0] != shapes[1]) == (argument in MECHANISM_SIZES), (name, argument)


@pytest.mark.parametrize("name", ["Inducing", "Pooling"])
@pytest.mark.parametrize(("command", "points"), [("test", 10**9), ("fit", 10**30), ("predict", float("inf"))])
def test_a_mechanism_larger_than_the_weights(
    name: str, points: float, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused before anything of it is allocated."""
    given = {"class_path": f"tabattn.attention.{name}", "init_args": {"points": points}}
    prior("a.ckpt", attention=given)
    arguments = [*PRIOR, "--data=SyntheticPrior", "--trainer.accelerator=cpu", "--ckpt_path=a.ckpt"]
    code, line = answer(capsys, command, *arguments)
    assert code == 3
    assert line.startswith("ckpt_path: a.ckpt: hyper_parameters: attention.points is ")
    assert line.endswith(f"{shortened(points)}, and its weights allow 24 at most")


@pytest.mark.parametrize("place", ["list", "network"])
def test_a_mechanism_larger_than_the_weights_at_any_depth(place: str) -> None:
    given = {"class_path": "tabattn.attention.inducing.Inducing", "init_args": {"points": 10**9}}
    if place == "list":
        prior("a.ckpt", attention=[given])
    else:
        prior("a.ckpt", attention=None, dim=given)
    with pytest.raises(DataError, match=r"points is 1000000000, and its weights allow 24 at most"):
        read("a.ckpt")


def test_a_mechanism_as_large_as_its_weights() -> None:
    task = PriorClassification(partial(PriorNetwork, **SMALL), attention=partial(MECHANISMS["Inducing"], points=64))
    known: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    task.on_save_checkpoint(known)
    torch.save(known, "a.ckpt")
    assert read("a.ckpt")["hyper_parameters"]["attention"]["init_args"] == {"points": 64}


@pytest.mark.parametrize("points", [10**9, 10**30])
def test_a_saved_mechanism_larger_than_its_weights(points: int) -> None:
    """Of weights and saved estimators: their network is built without memory first."""
    tensors, arguments = weights.described(PriorNetwork(**SMALL).eval())
    inducing = {"class_path": "tabattn.attention.Inducing", "init_args": {"points": points}}
    arguments["init_args"]["attention"] = inducing
    weights.write("a.safetensors", tensors, {"network": arguments})
    with pytest.raises(ValueError, match="does not hold the network it describes"):
        weights.load_network("a.safetensors")


def test_a_checkpoint_of_another_task(capsys: pytest.CaptureFixture[str]) -> None:
    path = prior("a.ckpt")
    with pytest.raises(ValueError, match=r"its task is tabattn\.tasks\.PriorClassification, not PairInference"):
        PairInference.load_from_checkpoint(path)
    code, line = answer(capsys, "test", *TINY, "--ckpt_path=a.ckpt")
    assert code == 2
    assert (
        line
        == "ckpt_path: the checkpoint is one of tabattn.tasks.PriorClassification, the model is tests.helpers.MeanTask"
    )


@pytest.mark.parametrize("trick", ["compressed", "larger than the file"])
def test_archives_that_grow(trick: str) -> None:
    path = prior("a.ckpt")
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    kind = zipfile.ZIP_DEFLATED if trick == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile("b.ckpt", "w", kind) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    if trick != "compressed":
        content = Path("b.ckpt").read_bytes()
        place = content.index(b"PK\x01\x02") + 20
        Path("b.ckpt").write_bytes(content[:place] + b"\xff\xff\xff\x7f" * 2 + content[place + 8 :])
    with pytest.raises(DataError, match=f"{trick}$"):
        read("b.ckpt")


def stolen(source: Path, folder: Path, **state: Any) -> None:
    """A checkpoint like the source whose ``ModelCheckpoint`` claims to have saved other files."""
    content = torch.load(source, weights_only=True)
    for key, value in content["callbacks"].items():
        if key.startswith("ModelCheckpoint"):
            value |= {"dirpath": str(folder), **state}
    torch.save(content, "stolen.ckpt")


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("form", ["..", "absolute", "link", "folder", "not plain", "dirpath"])
def test_a_checkpoint_deletes_nothing_outside_of_its_folder(
    tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    main([*FIT, "--checkpoint.monitor=val/loss"])
    source = tmp_path / "runs/tiny/Softmax/version_0/checkpoints/last.ckpt"
    folder = tmp_path / "mine"
    folder.mkdir()
    (tmp_path / "outside").mkdir()
    victim = tmp_path / "outside" / "thesis.ckpt"
    victim.write_text("years of work")
    if form == "link":
        (folder / "link").symlink_to(tmp_path / "outside")
    path = {
        "..": f"{folder}/../outside/thesis.ckpt",
        "absolute": str(victim),
        "link": f"{folder}/link/thesis.ckpt",
        "folder": f"{folder}/../outside",
        "not plain": f"{folder}/./best.ckpt",
        "dirpath": str(victim),
    }[form]
    high = torch.tensor(1e9)
    claims = {"best_model_path": path, "kth_best_model_path": path, "best_k_models": {path: high}}
    home = tmp_path / "outside" if form == "dirpath" else folder
    stolen(source, home, **claims, last_model_path=path, kth_value=high, best_model_score=high)
    flags = ["--checkpoint.monitor=val/loss", f"--checkpoint.dirpath={folder}", "--trainer.max_epochs=3"]
    assert main([*FIT, *flags, "--ckpt_path=stolen.ckpt"]) == 0
    assert victim.read_text() == "years of work"
    assert (folder / "best.ckpt").is_file()
    assert f"not this run's own, which are left as they are: {shortened(path)};" in caplog.text


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty", "ignore:The dirpath")
@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "/", "~/thesis.ckpt", "outside/", "stolen.ckpt", "C:\\thesis.ckpt", "http://a.b/thesis.ckpt"),
        *("a\0b", "x" * 5000, "\udcff", None, 3, 1.5, True, b"\xff", ["outside/thesis.ckpt"], {"a": {"b": "outside"}}),
    ],
    ids=lambda path: repr(path)[:20],
)
def test_malformed_paths_of_checkpoints_touch_nothing(
    run: Path, tmp_path: Path, path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = tmp_path / "outside" / "thesis.ckpt"
    victim.parent.mkdir()
    victim.write_text("years of work")
    high = torch.tensor(1e9)
    best = {path: high} if path.__hash__ else path
    claims = {"best_model_path": path, "kth_best_model_path": path, "last_model_path": path, "best_k_models": best}
    folder = run / "checkpoints"
    stolen(folder / "last.ckpt", folder, **claims, kth_value=high, best_model_score=high)
    capsys.readouterr()
    code = main([*FIT, "--checkpoint.monitor=val/loss", "--trainer.max_epochs=3", "--ckpt_path=stolen.ckpt"])
    assert code in (0, 2, 3)
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]) == (code > 0)
    assert victim.read_text() == "years of work"
    assert Path("stolen.ckpt").is_file()


def test_a_run_that_goes_on_elsewhere_leaves_the_older_files() -> None:
    main([*FIT, "--checkpoint.monitor=val/loss"])
    older = Path("runs/tiny/Softmax/version_0/checkpoints")
    before = {path.name: path.read_bytes() for path in older.iterdir()}
    flags = ["--checkpoint.monitor=val/loss", "--trainer.max_epochs=3", f"--ckpt_path={older / 'last.ckpt'}"]
    assert main([*FIT, *flags]) == 0
    assert {path.name: path.read_bytes() for path in older.iterdir()} == before
    assert Path("runs/tiny/Softmax/version_1/checkpoints/best.ckpt").is_file()
