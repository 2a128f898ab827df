"""Comparison of attentions on one table: protocols, shared initial weights, and resumption of the experiment."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor

from benchmarks import adult, adult_run
from benchmarks.baselines import BASELINES
from benchmarks.protocols import fitted, flip, folds, scores
from datamodules import TableTasks
from datamodules.prior import DrawOptions
from tabattn.attention import MECHANISMS
from tabattn.contract.batches import TableBatch
from tests.helpers import build

SMALL = [
    "--data.rows=20",
    "--data.context=15",
    "--data.features=3",
    "--data.num_tasks=8",
    "--data.evaluation.val_tasks=3",
    "--data.evaluation.test_tasks=3",
    "--data.batch_size=2",
    "--data.steps_per_epoch=2",
    "--model.network.dim=8",
    "--model.network.heads=2",
    "--model.network.hidden=8",
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table whose first column tells the class, in the folder of no test."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.standard_normal((200, 3)), columns=["told", "b", "c"]).round(3)
    frame["target"] = np.where(frame.told + 0.3 * random.standard_normal(200) > 0.5, "yes", "no")
    path = tmp_path_factory.mktemp("table") / "tiny.csv"
    frame.to_csv(path, index=False)
    return str(path)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Trainings run here and now; these are their command lines."""
    runs: list[list[str]] = []

    def launch(arguments: list[str], log: Path) -> int:
        runs.append(arguments)
        adult_run.main(arguments)
        return 0

    monkeypatch.setattr("benchmarks.adult.launch", launch)
    monkeypatch.setattr("benchmarks.adult.CLASSICAL", ("logistic regression",))
    return runs


def tasks(source: str, permute_labels: bool = False) -> TableTasks:
    return build(
        TableTasks,
        source,
        num_tasks=30,
        evaluation__test_tasks=30,
        rows=40,
        context=30,
        draws__permute_labels=permute_labels,
    )


def batch() -> TableBatch:
    y = torch.tensor([[0, 1] * 10, [1, 1, 0, 0] * 5])
    return TableBatch(torch.arange(80.0).view(2, 20, 2), y, 15, table=torch.tensor([4, 5]))


def test_every_row_is_a_target_once_and_keeps_its_label() -> None:
    whole = batch()
    cut = folds(whole)
    targets = torch.cat([fold.x[:, fold.context :] for fold in cut], dim=1)
    assert torch.equal(targets.sort(1).values, whole.x)
    labels = {tuple(cells.tolist()): int(label) for cells, label in zip(whole.x[0], whole.y[0], strict=True)}
    for fold in cut:
        assert fold.context == 16
        assert len({*map(tuple, fold.x[0].tolist())}) == 20
        assert [labels[tuple(cells.tolist())] for cells in fold.x[0]] == fold.y[0].tolist()
        assert torch.equal(fold.y[:, 16:].sum(1), torch.tensor([2, 2]))
        assert fold.table is whole.table


def test_flip_reverses_class_indices_of_the_context() -> None:
    whole = batch()
    flipped = flip(whole, 3)
    assert torch.equal(flipped.y[:, :15], 2 - whole.y[:, :15])
    assert torch.equal(flipped.y[:, 15:], whole.y[:, 15:])
    assert torch.equal(flip(flipped, 3).y, whole.y)
    assert torch.equal(flipped.x, whole.x)


def test_flipped_labels_tell_reading_from_memorisation(source: str) -> None:
    def known(batch: TableBatch) -> Tensor:
        yes = batch.x[:, batch.context :, 0].sigmoid()
        return torch.stack([1 - yes, yes], dim=-1)

    data = build(
        TableTasks,
        source,
        num_tasks=30,
        evaluation__test_tasks=30,
        rows=40,
        context=30,
        draws=DrawOptions(False, False),
    )
    knower = scores(known, data)
    assert knower["held-out"] > 0.9
    assert knower["flipped"] == knower["held-out"]
    reader = scores(fitted(BASELINES["logistic regression"], 2, 0), data)
    assert min(reader["original"], reader["held-out"]) > 0.9
    assert reader["flipped"] == pytest.approx(1 - reader["held-out"], abs=1e-6)


def test_permuted_class_indices_defeat_memorisation(source: str) -> None:
    reader = fitted(BASELINES["logistic regression"], 2, 0)
    assert scores(reader, tasks(source, permute_labels=True))["held-out"] > 0.9


def test_the_original_protocol_scores_the_tasks_that_were_trained_on(source: str) -> None:
    data = tasks(source)
    seen: list[TableBatch] = []

    def predict(batch: TableBatch) -> Tensor:
        seen.append(batch)
        return torch.full((len(batch.x), batch.x.shape[1] - batch.context, 2), 0.5)

    assert scores(predict, data) == {"original": 0.5, "held-out": 0.5, "flipped": 0.5}
    trained = {tuple(row) for shown in data.train_dataloader().dataset[0].x for row in shown.tolist()}
    assert {tuple(row) for shown in seen[0].x for row in shown.tolist()} <= trained
    held_out = {tuple(row) for shown in seen[5].x for row in shown.tolist()}
    assert not held_out & trained


@pytest.mark.parametrize("attention", adult.ATTENTIONS)
def test_attentions_start_alike_and_target_rows_are_served(source: str, tmp_path: Path, attention: str) -> None:
    built = {}
    for name in ("Softmax", attention):
        options = adult_run.arguments([source, f"--attention={name}", "--seed=3", f"--folder={tmp_path}", *SMALL])
        task = adult_run.build(options).model
        adult_run.start_alike(task, options.seed)
        built[name] = task.network
    own = built[attention].state_dict()
    for name, weight in built["Softmax"].state_dict().items():
        assert torch.equal(own[name], weight)
    rows = built[attention].blocks[0].rows
    assert type(rows.context.mechanism) is MECHANISMS[attention]
    served = MECHANISMS[attention] if MECHANISMS[attention].cross else MECHANISMS["Softmax"]
    assert type(rows.target.mechanism) is served


def test_a_training_leaves_its_files_and_the_result_last(source: str, tmp_path: Path) -> None:
    folder = tmp_path / "Local" / "seed_1"
    options = [
        source,
        "--attention=Local",
        "--seed=1",
        "--steps=3",
        f"--folder={folder}",
        "--honest",
        "--cpu-time",
        *SMALL,
    ]
    adult_run.main(options)
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "history.csv", "last.ckpt", "result.json"}
    result = json.loads((folder / "result.json").read_text())["result"]
    assert result["steps"] == 3
    assert all(0 <= result[name] <= 1 for name in ("original", "held-out", "flipped"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["data"]["init_args"]["draws"]["permute_labels"] is True
    assert config["data"]["init_args"]["seed"] == config["seed_everything"] == 1
    assert len(pd.read_csv(folder / "history.csv")) == 3


def test_a_budget_of_seconds_ends_a_training(source: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    adult_run.main([source, "--attention=Linear", "--seconds=0.001", f"--folder={folder}", *SMALL])
    assert json.loads((folder / "result.json").read_text())["result"]["steps"] == 1


def test_honest_differs_from_adult_in_the_labels_alone(source: str) -> None:
    plain, honest = (
        yaml.safe_load((adult_run.CONFIGS / f"{name}.yaml").read_text()) for name in ("adult", "adult_honest")
    )
    changed = honest.pop("data")["init_args"]
    assert not honest
    before = plain["data"]["init_args"]
    assert {name for name, value in changed.items() if before[name] != value} == {"draws"}


def experiment(source: str, folder: Path, *further: str) -> list[str]:
    options = ["--steps=3", "--seeds=2", "--attentions", "Pooling", "--rows", "10", "20", "--tables=1", "--repeats=1"]
    return [source, *options, f"--runs={folder / 'runs'}", f"--out={folder / 'docs' / 'tiny'}", *SMALL, *further]


@pytest.mark.slow
def test_the_experiment_reports_and_resumes(
    source: str, tmp_path: Path, in_process: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    adult.main(experiment(source, tmp_path))
    order = [(run[2], run[3]) for run in in_process]
    wanted = [(f"--attention={name}", f"--seed={seed}") for seed in (0, 1) for name in ("Softmax", "Pooling")]
    assert order == wanted
    text = (tmp_path / "docs/tiny.md").read_text()
    assert text in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "docs/tiny.csv")
    assert list(table["method"].unique()) == ["Softmax", "Pooling", "logistic regression"]
    assert list(table.groupby("method").size()) == [2] * 3
    pictures = {"loss_step", "loss_time", "auc_step", "auc_time", "inference"}
    assert {path.stem for path in (tmp_path / "docs/tiny").glob("*.png")} == pictures
    assert all(f"tiny/{name}.png" in text for name in pictures)
    assert source not in text

    (tmp_path / "runs/Pooling/seed_1/result.json").unlink()
    adult.main(experiment(source, tmp_path))
    assert len(in_process) == 5
    adult.main(experiment(source, tmp_path, "--optimizer.lr=0.01"))
    assert len(in_process) == 9


def test_a_run_that_fails_is_named(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.adult.launch", lambda *_: 7)
    with pytest.raises(SystemExit, match=r"Softmax, seed 0 failed with status 7: see .*log\.txt"):
        adult.main(experiment(source, tmp_path))


def test_every_network_is_built_before_the_first_is_trained(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    monkeypatch.setattr("benchmarks.adult.build", lambda options: built.append(options.attention))
    monkeypatch.setattr("benchmarks.adult.launch", lambda *_: 7)
    with pytest.raises(SystemExit, match="Softmax, seed 0 failed"):
        adult.main(experiment(source, tmp_path))
    assert built == ["Softmax", "Pooling"]


@pytest.mark.slow
def test_each_training_is_a_separate_process(source: str, tmp_path: Path) -> None:
    options = adult.arguments([*experiment(source, tmp_path), "--data.seed=5"])
    result = adult.train(options, "Softmax", 1)
    assert result["steps"] == 3
    assert (tmp_path / "runs/Softmax/seed_1/log.txt").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--seeds=0", "seeds must be at least 1, got 0"),
        ("--rows=5", "rows must be at least 10, got"),
        ("--steps=0", "steps must be at least 1, got 0"),
        ("--seconds=0", "seconds must be greater than 0, got 0"),
        ("--sedes=4", "unrecognized argument --sedes=4"),
        ("--data.rows", "unrecognized argument --data.rows"),
        ("--attentions=Sotfmax", "invalid choice"),
    ],
)
def test_wrong_arguments(argument: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        adult.arguments(["table.csv", argument])
    assert message in capsys.readouterr().err


def test_a_missing_table_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .*nothing\.csv"):
        adult.main(experiment(str(tmp_path / "nothing.csv"), tmp_path))
