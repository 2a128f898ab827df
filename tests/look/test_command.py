"""Pictures of a trained network: what is drawn of a run, of weights that ship, and errors in one line."""

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from callbacks.embeddings import Points
from callbacks.picture_logger import PictureWriter
from tabattn.cli import main as train
from tabattn.look.command import LEFT_OUT, main, parser, prepared
from tabattn.look.histograms import MOST, draw
from tabattn.look.page import write_page
from tabattn.look.sources import SHIPPED, source_of
from tabattn.look.tsne import MOST_CLASSES, chosen_columns, drawn, embedded
from tests.callbacks.test_divergence import NETWORK, QUIET, ROOT, TASKS

CONFIG = ROOT / "configs" / "prior.yaml"
FAST = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a short run with callbacks of its own."""
    root = tmp_path_factory.mktemp("runs")
    words = [f"--config={CONFIG}", *QUIET, *NETWORK, *TASKS["prior"], f"--run.root={root}", "--run.name=x"]
    steps = ["--trainer.max_steps=2", "--data.steps_per_epoch=2", "--run.version=a", "--trainer.callbacks+=Look"]
    assert train(["fit", *words, *steps, "--trainer.log_every_n_steps=1"]) == 0
    return root / "x" / "a"


def test_a_run_has_all_pictures_and_a_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    assert main([checkpoint, "--tsne=last", r"--layers=blocks\.1", "--data.tables=[sklearn:wine]", *FAST]) == 0
    out = run / "look"
    found = json.loads((out / "look.json").read_text())
    assert set(found["pictures"]) == {
        "attention/network.blocks.1.features.mechanism",
        "attention/network.blocks.1.rows.attention.mechanism",
        "heads/head_similarity",
        "calibration/calibration",
        "precision_recall/curves_wine",
        "weights/histograms",
        "tsne/network.blocks.1",
    }
    assert "val/wine/auroc" in found["scalars"]
    printed = capsys.readouterr().out.splitlines()
    assert [str(out / path) for path in ("index.html", *found["pictures"].values(), "look.json")] == printed[-9:]
    page = (out / "index.html").read_text()
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 7
    for path in found["pictures"].values():
        with Image.open(out / path) as picture:
            assert picture.size[0] > 300
        assert base64.b64encode((out / path).read_bytes()).decode() in pictures
    assert "http" not in page
    assert not list(out.rglob("events.*"))
    assert not (out / "figures").exists()


def test_the_test_data_are_looked_at_on_request(run: Path) -> None:
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    out = run.parent / "tested"
    assert main([checkpoint, "--split=test", "--layers=rows", f"--out={out}", *FAST]) == 0
    found = json.loads((out / "look.json").read_text())
    assert "test/auroc" not in found["scalars"]
    assert "auroc" in found["scalars"]
    assert "precision_recall/curves_iris" in found["pictures"]


def test_callbacks_of_the_run_that_look_on_are_left_out(run: Path) -> None:
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    found = source_of(checkpoint, None)
    assert found.home == run
    assert found.flags == [f"--ckpt_path={checkpoint}"]
    averaging = {"class_path": "lightning.pytorch.callbacks.WeightAveraging"}
    found.config["trainer"]["callbacks"] += ["History", averaging, {"class_path": "callbacks.AlphaAnnealing"}]
    config = prepared(found, parser().parse_args([checkpoint, "--items=3"]))
    names = [each["class_path"].rpartition(".")[2] for each in config["trainer"]["callbacks"]]
    assert names == ["WeightAveraging", "AlphaAnnealing", "Look", "WeightHistograms"]
    look = config["trainer"]["callbacks"][2]["init_args"]
    assert look == {"layers": None, "items": 3, "batches": 32, "without": LEFT_OUT}


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_that_ship_have_a_configuration(name: str) -> None:
    found = source_of(name, None)
    path = Path(found.flags[0].partition("=")[2])
    assert path.is_file()
    assert yaml.safe_dump(found.config)


def test_the_classifier_that_ships_is_looked_at_on_a_named_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["shipped", "--data.tables=[sklearn:iris]", f"--out={tmp_path / 'o'}", "--layers=blocks.0", *FAST]
    assert main(words) == 0
    scalars = json.loads((tmp_path / "o" / "look.json").read_text())["scalars"]
    assert scalars["val/iris/auroc"] > 0.98
    assert scalars["calibration/ece"] < 0.15
    assert scalars["precision_recall/iris/average_precision"] > 0.95


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["none.ckpt"],
            "there is no file none.ckpt; the names of networks in the package are shipped, ",
        ),
        (["a/none.ckpt"], "there is no file a/none.ckpt\n"),
        (["x.ckpt"], "x.ckpt is in no run's folder with a config.yaml: give one by --config"),
        (["x.ckpt", "--config=none"], "there is no file none, and no packaged configuration is called so"),
        (["x.ckpt", "--config=x.ckpt"], "x.ckpt describes no model and data"),
        (["x.ckpt", "--config=bad.yaml"], "bad.yaml cannot be read"),
        (["shipped", "--items=9"], "items must be at least 1 and at most 8, got 9"),
        (["shipped", "--batches=0"], "batches must be at least 1, got 0"),
        (["shipped", "--points=0", "--tsne=last"], "points must be at least 1 and at most 5000, got 0"),
        (["shipped", "--optimizer.lr=1"], "unknown flag --optimizer.lr=1"),
        (["shipped", "--layers=("], "layers must be a regular expression"),
    ],
)
def test_errors_are_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.ckpt").write_text("x")
    Path("bad.yaml").write_text("a: [")
    try:
        status = main(words)
    except SystemExit as ex:
        status = int(ex.code or 0)
    assert status == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml", "x.ckpt"]


def test_the_help_explains(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for word in ("--tsne LAYER", "--layers", "shipped", "--split", "--data.tables"):
        assert word in text


def test_without_jinja2_there_are_pictures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = PictureWriter(tmp_path)
    writer.add_image("test/a b/../c:d", np.zeros((4, 5, 3), np.uint8), 3, dataformats="HWC")
    writer.write_index()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert write_page(tmp_path, "x") == [tmp_path / "a_b" / "_" / "c_d.png", tmp_path / "look.json"]
    assert "pip install 'tabattn[report]'" in capsys.readouterr().err
    with Image.open(tmp_path / "a_b" / "_" / "c_d.png") as picture:
        assert picture.size == (5, 4)


def test_names_on_the_page_are_escaped(tmp_path: Path) -> None:
    writer = PictureWriter(tmp_path)
    writer.add_text("run/configuration", "<script>")
    writer.add_scalar("loss", 0.25)
    writer.write_index()
    page = write_page(tmp_path, "<b>")[0].read_text()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "0.25" in page


def points(number: int, **columns: Any) -> Points:
    found = Points()
    source = torch.Generator().manual_seed(0)
    vectors = torch.randn(number, 6, generator=source) + 9 * (torch.arange(number) % 2)[:, None]
    found.add(vectors, {"item": list(range(number)), **columns})
    return found


def test_t_sne_is_the_same_at_each_call_and_parts_what_is_apart() -> None:
    vectors = torch.cat(points(40).vectors).double().numpy()
    places = embedded(vectors)
    assert np.array_equal(places, embedded(vectors))
    first, second = places[::2], places[1::2]
    apart = np.linalg.norm(first.mean(0) - second.mean(0))
    assert apart > 2 * max(np.linalg.norm(part - part.mean(0), axis=1).mean() for part in (first, second))


def test_panels_are_coloured_by_what_points_are() -> None:
    columns = {"item": [0, 1], "token": [0, 1], "same": [1, 1], "y": [0.5, 1.5], "label": ["a", "b"], "zzz": [1, 2]}
    assert chosen_columns(columns) == ["label", "y", "zzz"]
    assert chosen_columns({"item": [0, 1], "token": [0, 1]}) == ["item", "token"]
    many = [f"kind {place}" for place in range(MOST_CLASSES + 4)]
    figure = drawn("a", points(len(many), label=many, y=[str(place / 7) for place in range(len(many))]))
    assert figure is not None
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(legend) == MOST_CLASSES + 1
    assert legend[-1] == "4 others"
    assert figure.axes[1].get_legend() is None, "numbers of many values have a colour scale"


def test_numbers_that_are_almost_all_different_have_a_scale() -> None:
    figure = drawn("a", points(12, parameters=list(range(12)), kind=[place % 3 for place in range(12)]))
    assert figure is not None
    assert [axes.get_legend() is None for axes in figure.axes[:2]] == [False, True]


def test_too_few_points_are_not_drawn() -> None:
    assert drawn("a", points(9)) is None
    assert drawn("a", Points()) is None
    broken = points(30)
    broken.vectors[0][:25] = torch.nan
    assert drawn("a", broken) is None


def test_histograms_are_of_the_largest_parameters() -> None:
    parameters = {f"p{place}": torch.full((place + 1,), 2.0) for place in range(MOST + 3)}
    parameters["p62"][0] = torch.nan
    figure = draw(parameters | {"empty": torch.zeros(0)})
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == MOST
    assert titles[0] == "p3\n4: 2 ± 0"
    assert titles[-1].endswith("1 not finite")
