"""HParams and Provenance: what a run is made of, and how well it did, read back from TensorBoard and the files."""

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from callbacks import HParams, Provenance
from callbacks.run_configuration import LONGEST, flat
from tabattn.cli import main
from tabattn.storage.provenance import code_version, data_fingerprint, versions
from tests.callbacks.tiny import Batch, TinyTask, board, fit, loader, trainer

ROOT = Path(__file__).parents[2]


def listed(events: EventAccumulator) -> tuple[dict[str, Any], str, list[str]]:
    """Hyperparameters, name of the group and tags of scores."""

    def content(name: str) -> HParamsPluginData:
        return HParamsPluginData.FromString(events.SummaryMetadata(f"_hparams_/{name}").plugin_data.content)

    start = content("session_start_info").session_start_info
    found = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    return found, start.group_name, [each.name.tag for each in content("experiment").experiment.metric_infos]


def text(events: EventAccumulator, name: str) -> str:
    return str(events.Tensors(f"run/{name}/text_summary")[0].tensor_proto.string_val[0].decode())


class Scored(TinyTask):
    """Has a score that is best at its second validation."""

    def __init__(self) -> None:
        super().__init__()
        self.validations = 0

    def on_validation_epoch_end(self) -> None:
        score = (0.9, 0.2, 0.5, 0.4)[self.validations]
        self.validations += 0 if self.trainer.sanity_checking else 1
        self.log_dict({"val/score": score, "val/other": 10 * score, "val/table/score": 7.0, "val_score": 8.0})

    def test_step(self, batch: Batch) -> None:
        self.log("test/score", 0.25, batch_size=len(batch.y))


def best(folder: Path, mode: str) -> ModelCheckpoint:
    return ModelCheckpoint(folder / "kept", monitor="val/score", mode=mode, save_last=True)


@pytest.mark.parametrize(("mode", "scores"), [("min", [0.9, 0.2]), ("max", [0.9])])
def test_the_scores_are_those_of_the_best_validation(tmp_path: Path, mode: str, scores: list[float]) -> None:
    fit(tmp_path, Scored(), HParams(), best(tmp_path, mode), max_epochs=4, enable_checkpointing=True)
    events = board(tmp_path)
    assert [event.value for event in events.Scalars("best/val/score")] == pytest.approx(scores)
    assert [event.value for event in events.Scalars("best/val/other")] == pytest.approx([10 * each for each in scores])
    found, group, tags = listed(events)
    assert tags[0] == "best/val/score"
    assert set(tags) == {f"{part}/{name}" for part in ("best/val", "test") for name in ("score", "other", "loss")}
    assert found["model"] == "Scored"
    assert found["optimizer"] == "SGD"
    assert found["optimizer.lr"] == pytest.approx(0.1)
    assert group == str((tmp_path / "board" / "version_0").resolve())


def test_without_a_monitor_the_latest_scores_count(tmp_path: Path) -> None:
    fit(tmp_path, Scored(), HParams(), max_epochs=3)
    assert [event.value for event in board(tmp_path).Scalars("best/val/score")] == pytest.approx([0.9, 0.2, 0.5])


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_resumed_run_goes_on_with_its_best(tmp_path: Path) -> None:
    fit(tmp_path, Scored(), HParams(), best(tmp_path, "min"), max_epochs=2, enable_checkpointing=True)
    task = Scored()
    task.validations = 2
    run = trainer(tmp_path, [HParams(), best(tmp_path, "min")], max_epochs=4, enable_checkpointing=True)
    run.fit(task, loader(3), loader(2), ckpt_path=tmp_path / "kept" / "last.ckpt", weights_only=False)
    assert task.validations == 4
    assert "best/val/score" not in board(tmp_path, 1).Tags()["scalars"]


def test_a_test_is_listed_with_its_scores(tmp_path: Path) -> None:
    trainer(tmp_path, [HParams(), best(tmp_path, "min")], enable_checkpointing=True).test(
        Scored(), loader(2), verbose=False
    )
    events = board(tmp_path)
    assert [event.value for event in events.Scalars("test/score")] == [0.25]
    assert listed(events)[2] == ["best/val/score", "test/score"]


def test_hyperparameters_are_flat() -> None:
    network = {"class_path": "tabattn.prior.PriorNetwork", "init_args": {"dim": 8, "grow": None, "rows": [1, 2]}}
    attention = {"class_path": "Local", "init_args": {"window": 4}, "dict_kwargs": {}}
    config = {
        "model": {"class_path": "a.Task", "init_args": {"network": network, "attention": attention, "plain": True}},
        "data": {"class_path": "b.Data", "init_args": {"text": "x" * 500, "_instantiator": "lightning"}},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.5}},
        "trainer": {"max_steps": 7, "logger": True},
        "seed_everything": 3,
        "run": {"root": "runs"},
    }
    found = flat(config)
    assert len(str(found.pop("data.text"))) == LONGEST
    assert found == {
        "model": "Task",
        "model.network": "PriorNetwork",
        "model.network.dim": 8,
        "model.network.rows": "[1, 2]",
        "model.attention": "Local",
        "model.attention.window": 4,
        "model.plain": "True",
        "data": "Data",
        "optimizer": "SGD",
        "optimizer.lr": 0.5,
        "trainer.max_steps": 7,
        "seed_everything": 3,
    }


def test_a_run_of_the_command_line_has_its_optimizer_its_data_and_its_test_in_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("x,y\n" + "\n".join(f"{n},{n % 3}" for n in range(40)))
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    config = f"--config={ROOT / 'configs' / 'reconstruction.yaml'}"
    small = ["--model.network.dim=8", "--model.network.heads=2", "--model.network.layers=2"]
    looks = ["--trainer.callbacks+=HParams", "--trainer.callbacks+=Provenance"]
    data = ["--data.table=t.csv", "--data.target=y", "--data.steps_per_epoch=2"]
    args = ["fit", config, *quiet, *small, *data, *looks, "--trainer.max_steps=2", "--optimizer.lr=0.03"]
    assert main([*args, "--trainer.check_val_every_n_epoch=1", "--trainer.log_every_n_steps=1"]) == 0
    (run,) = (tmp_path / "runs" / "reconstruction").glob("*/version_0")
    found, group, tags = listed(EventAccumulator(str(run)).Reload())
    assert found["optimizer"] == "MuonAdamW"
    assert found["optimizer.lr"] == 0.03
    assert found["lr_scheduler"] == "WarmupCosine"
    assert found["model.attention"] == "Softmax"
    assert found["data.table"] == "t.csv"
    assert not any("_instantiator" in name for name in found)
    assert tags[0].startswith("best/val/")
    assert main(["test", "--config", str(run / "config.yaml"), f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"]) == 0
    _, of_test, _ = listed(EventAccumulator(str(run / "test_0")).Reload())
    assert of_test == group == str(run.relative_to(tmp_path))
    provenance = json.loads((run / "provenance.json").read_text())
    assert list(provenance["data"]["files"]) == ["t.csv"]
    assert provenance == json.loads((run / "test_0" / "provenance.json").read_text())
    (tmp_path / "t.csv").write_text("x,y\n1,2\n")
    assert data_fingerprint({"table": "t.csv"}) != provenance["data"]["fingerprint"]
    assert "table: t.csv" in text(EventAccumulator(str(run)).Reload(), "configuration")


def test_the_provenance_is_a_file_and_text(tmp_path: Path) -> None:
    run = fit(tmp_path, TinyTask(), Provenance())
    found = json.loads((Path(run.log_dir or "") / "provenance.json").read_text())
    assert found["versions"] == versions()
    assert found["code"]["version"] == code_version()
    events = board(tmp_path)
    assert versions()["torch"] in text(events, "versions")
    assert code_version() in text(events, "code")
    assert found["data"]["fingerprint"] in text(events, "data")
    assert "class_path: TinyTask" in text(events, "configuration")
    assert len(events.Tensors("run/versions/text_summary")) == 1


def test_a_trial_run_writes_no_file(tmp_path: Path) -> None:
    run = trainer(tmp_path, [Provenance()], fast_dev_run=True, default_root_dir=tmp_path)
    run.fit(TinyTask(), loader(2), loader(2))
    assert not list(tmp_path.rglob("provenance.json"))


def test_the_table_needs_tensorboard(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match="HParams draws on TensorBoard"):
        trainer(tmp_path, [HParams()], logger=False).fit(TinyTask(), loader(1), loader(1))
