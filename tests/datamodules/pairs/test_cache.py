"""Cache of tasks in a file: content, checks of its settings, and atomic writes."""

import errno
import json
from pathlib import Path

import h5py
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

import tabattn.tasks  # noqa: F401  (makes the names of the command known)
from datamodules import SyntheticPairs
from datamodules.hdf5_write import WriteBuffer
from datamodules.pairs.batches import PairBatches
from tabattn.contract.batches import PairBatch
from tabattn.contract.errors import DataError
from tabattn.training.cli import main
from tests.helpers import build

SIZES = {"batch_size": 3, "steps_per_epoch": 5, "evaluation__val_batches": 2, "evaluation__test_batches": 3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "pairs.h5"


def kept(path: Path, **changes: object) -> SyntheticPairs:
    arguments: dict[str, object] = {"kind": "icm", "points": (7, 7), "context": 3, "cache__file": str(path), **SIZES}
    return build(SyntheticPairs, **{**arguments, **changes})


def same(a: PairBatch, b: PairBatch) -> bool:
    parts = [*zip(a[:3], b[:3], strict=True), *zip(a.oracle or (), b.oracle or (), strict=True)]
    return a.context == b.context and all(torch.equal(p, q) for p, q in parts)


@pytest.mark.parametrize("changes", [{}, {"kind": "tnp", "points": None, "context": None}])
def test_kept_tasks_are_the_drawn_ones(path: Path, changes: dict[str, object]) -> None:
    drawn = build(SyntheticPairs, **{"kind": "icm", "points": (7, 7), "context": 3, **SIZES, **changes})
    for _ in ("written", "read"):
        data = kept(path, **changes)
        for ours, theirs in (
            (data.val_dataloader(), drawn.val_dataloader()),
            (data.test_dataloader(), drawn.test_dataloader()),
            (data.train_dataloader(), drawn.train_dataloader()),
        ):
            assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def test_training_goes_through_its_batches_again(path: Path) -> None:
    batches = list(kept(path, cache__batches=2).train_dataloader())
    whole = list(build(SyntheticPairs, kind="icm", points=(7, 7), context=3, **SIZES).train_dataloader())
    assert [same(batches[i], whole[i % 2]) for i in range(5)] == [True] * 5
    workers = kept(path, cache__batches=2, num_workers=2).train_dataloader()
    assert all(same(a, b) for a, b in zip(workers, batches, strict=True))


def test_a_file_is_written_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(path).prepare_data()
    monkeypatch.setattr(PairBatches, "__getitem__", lambda self, index: pytest.fail("drawn anew"))
    assert len(list(kept(path).test_dataloader())) == 3
    assert [file.name for file in path.parent.iterdir()] == ["pairs.h5"]


def test_a_file_says_what_it_holds(path: Path) -> None:
    kept(path, kind="rbf").prepare_data()
    batch = next(iter(kept(path, kind="rbf").val_dataloader()))
    with h5py.File(path) as file:
        assert json.loads(file.attrs["kind"]) == "rbf"
        assert json.loads(file.attrs["seed"]) == 0
        assert json.loads(file.attrs["length"]) == [1.0, 1.0]
        assert json.loads(file.attrs["versions"])["torch"] == torch.__version__
        assert set(file) == {"val", "test"}
        assert {name: file["val"][name].shape for name in ("x", "y", "k", "role")} == dict.fromkeys("xyk", (6, 14)) | {
            "role": (6, 14)
        }
        assert file["val/role"][0].tolist() == [0] * batch.context + [1] * (14 - batch.context)


def test_a_file_of_other_tasks_is_refused(path: Path) -> None:
    kept(path).prepare_data()
    expected = r"pairs.h5 holds tasks of eps 0.05 \(not 0.1\), seed 0 \(not 1\): delete it, or name another file"
    with pytest.raises(MisconfigurationException, match=expected):
        kept(path, seed=1, process__eps=0.1).prepare_data()
    with pytest.raises(MisconfigurationException, match=r"holds tasks of test_batches 3 \(not 2\): delete it"):
        kept(path, evaluation__test_batches=2).test_dataloader()


def test_ways_to_train_share_what_is_scored(path: Path) -> None:
    kept(path, context=(2, 4), evaluation__context=3, regime="shuffle").prepare_data()
    other = kept(path, context=(1, 5), evaluation__context=3, regime=("forecast", "interp"))
    assert all(same(a, b) for a, b in zip(other.test_dataloader(), kept(path).test_dataloader(), strict=True))
    for changes, told in (
        ({"evaluation__context": 2}, r"eval_context \[3, 3\] \(not \[2, 2\]\)"),
        ({"evaluation__val_regime": "interp"}, r'val_regime \["forecast"\] \(not \["interp"\]\)'),
        ({"cache__batches": 1}, r"context null \(not \"every\"\), .*regime null \(not \["),
    ):
        with pytest.raises(MisconfigurationException, match=told):
            kept(path, **changes).prepare_data()


def test_training_that_is_kept_is_that_of_its_regime(path: Path) -> None:
    kept(path, cache__batches=1, evaluation__context=3).prepare_data()
    with pytest.raises(MisconfigurationException, match=r"pairs.h5 holds tasks of regime \[\"mix\"\] \(not \["):
        kept(path, cache__batches=1, regime="shuffle").prepare_data()
    with pytest.raises(MisconfigurationException, match=r"holds tasks of context \"every\" \(not \[1, 5\]\)"):
        kept(path, cache__batches=1, context=(1, 5), evaluation__context=3).prepare_data()


def test_the_command_line_says_it_in_one_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(path).prepare_data()
    data = ["--data=SyntheticPairs", "--data.kind=icm", "--data.points=[7,7]", "--data.context=3", "--data.seed=1"]
    data += [
        *(f"--data.{name.replace('__', '.')}={value}" for name, value in SIZES.items()),
        f"--data.cache.file={path}",
    ]
    run = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert (
        main(["fit", "--model=PairInference", "--model.network.dim=16", "--model.network.hidden=16", *data, *run]) == 2
    )
    expected = f"error: {path} holds tasks of seed 0 (not 1): delete it, or name another file"
    assert capsys.readouterr().err.splitlines()[-1] == expected


def test_a_damaged_file_is_refused(path: Path) -> None:
    kept(path).prepare_data()
    content = path.read_bytes()
    with h5py.File(path) as file:
        place = file["test/y"].id.get_chunk_info(0).byte_offset
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="it is cut short; delete it"):
        kept(path).prepare_data()
    path.write_bytes(b"no file of this kind")
    with pytest.raises(DataError, match="it is not an HDF5 file"):
        kept(path).val_dataloader()
    path.write_bytes(content[:place] + bytes(byte ^ 255 for byte in content[place : place + 8]) + content[place + 8 :])
    with pytest.raises(DataError, match="its content is not what its checksum says; delete it"):
        list(kept(path).test_dataloader())


def test_another_hdf5_file_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["X"] = [1]
    with pytest.raises(DataError, match="it is no file of pairs"):
        kept(path).prepare_data()


def test_an_interrupted_file_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: PairBatches, index: int) -> PairBatch:
        raise KeyboardInterrupt

    monkeypatch.setattr(PairBatches, "__getitem__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept(path).prepare_data()
    assert not list(path.parent.iterdir())


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        kept(tmp_path / "file" / "pairs.h5").prepare_data()


def test_a_full_disk_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: WriteBuffer, start: int, content: object) -> None:
        if start > 8000:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, start, content)

    put = WriteBuffer._put
    monkeypatch.setattr(WriteBuffer, "_put", full)
    with pytest.raises(DataError, match=r"pairs\.h5 cannot be written: No space left on device$"):
        kept(path).prepare_data()
    assert not list(path.parent.iterdir())
    monkeypatch.setattr(WriteBuffer, "_put", put)
    kept(path).prepare_data()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("test", None, "it has no group test"),
        ("test/x", None, "x is a link to something else"),
        ("test/y", [[1.0]], r"test/y must be of the shape of x, \(9, 14\), it is \(1, 1\)"),
        ("test/k", [[1.5]], "k is of the type float64"),
        ("test/points", [14, 14], "test must hold 3 batches of equal size, points has 2 entries"),
        ("test/context", [3, 3, 14], "test must have context below points"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(path: Path, name: str, value: object, told: str) -> None:
    kept(path).prepare_data()
    with h5py.File(path, "r+") as file:
        del file[name], file.attrs["sealed"]
        if value is not None:
            file[name] = value
    with pytest.raises(DataError, match=rf"pairs\.h5 cannot be used: {told}"):
        kept(path).prepare_data()


def test_points_beyond_the_axis_are_those_of_the_file(path: Path) -> None:
    data = kept(path, evaluation__beyond=3)
    drawn = build(
        SyntheticPairs,
        kind="icm",
        points=(7, 7),
        context=3,
        evaluation__beyond=3,
        evaluation__test_regime=None,
        **SIZES,
    )
    assert all(same(*both) for both in zip(data.test_dataloader(), drawn.test_dataloader(), strict=True))
    with pytest.raises(MisconfigurationException, match=r"holds tasks of beyond 3 \(not 0\)"):
        kept(path).prepare_data()


def test_a_file_of_an_earlier_version_has_no_points_beyond_the_axis(path: Path) -> None:
    kept(path).prepare_data()
    with h5py.File(path, "r+") as file:
        del file.attrs["beyond"], file.attrs["sealed"]
    kept(path).prepare_data()
    with pytest.raises(MisconfigurationException, match=r"holds tasks of beyond 0 \(not 2\)"):
        kept(path, evaluation__beyond=2).prepare_data()
