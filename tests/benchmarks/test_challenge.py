"""Challenge of nanoTabPFN's authors: protocol, training in a fixed time, goals, and resumption."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris

from benchmarks import challenge, challenge_training
from benchmarks.challenge_report import ALONE, GOALS, KERNEL, LOGISTIC, MIXED, ONCE, passes, report
from benchmarks.challenge_training import PARTS, Clock, averaged, draw, learn, loss_of, new_network, rate, train
from tabattn.prior.weights import load_network, read


@pytest.fixture
def qsar(tmp_path: Path) -> str:
    """Table of two classes in place of qsar-biodeg."""
    x = np.random.default_rng(0).standard_normal((60, 3))
    frame = pd.DataFrame(x, columns=["V1", "V2", "V3"]).assign(Class=1 + (x[:, 0] > 0))
    frame.to_csv(tmp_path / "qsar.csv", index=False)
    return f"{tmp_path / 'qsar.csv'}::Class"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of three steps, whatever the time."""
    monkeypatch.setattr(challenge_training, "CELLS", 300)
    passed = iter([0.0, 0.3, 0.6, 1.0] * 9)
    monkeypatch.setattr(Clock, "reader", lambda clock, processes: lambda: next(passed))


def test_logistic_regression_scores_as_in_the_notebook(qsar: str) -> None:
    tables = challenge.load_tables(qsar)
    found = [challenge.auc(challenge.logistic, tables[name], challenge.SPLIT) for name in list(tables)[:3]]
    assert [f"{score:.3f}" for score in found] == ["0.997", "0.998", "0.989"]


def test_tables_are_those_of_scikit_learn(qsar: str) -> None:
    tables = challenge.load_tables(qsar)
    x, y = load_iris(return_X_y=True)
    np.testing.assert_array_equal(tables["iris"].x, x.astype(np.float32))
    np.testing.assert_array_equal(tables["iris"].y, y)
    assert {name: table.x.shape[1] for name, table in tables.items()} == {
        "iris": 4,
        "wine": 13,
        "breast_cancer": 30,
        "qsar-biodeg": 3,
    }
    assert set(tables["qsar-biodeg"].y) == {0, 1}


def test_more_classes_than_the_network_has_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": np.arange(8.0), "y": list("abcdabcd")}).to_csv(tmp_path / "four.csv", index=False)
    with pytest.raises(ValueError, match=r"four\.csv must have at most 3 classes, got 4"):
        challenge.load_tables(str(tmp_path / "four.csv"))


def test_report_and_scores_are_written_and_trainings_are_kept(
    qsar: str, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, folder = tmp_path / "docs" / "challenge.md", tmp_path / "networks"
    words = ["--qsar", qsar, "--processes", "1", "--seeds", "1", "2", "--splits", "1", "--folder", str(folder)]
    challenge.main([*words, "--out", str(out)])
    text = out.read_text()
    assert capsys.readouterr().out == text
    found = pd.read_csv(out.with_suffix(".csv"))
    assert len(found) == 2 * 4 * (2 * 3 + 2)
    assert list(found["split"].unique()) == [challenge.SPLIT, 0]
    weights = [make().kernel_weight for make in challenge.of_network(new_network(0)).values()]
    assert weights == [0.0, 0.0, 0.7]
    assert list(found["method"].unique()) == [ONCE, ALONE, MIXED, KERNEL, LOGISTIC]
    assert set(found.loc[found["seed"].isna(), "method"]) == {KERNEL, LOGISTIC}
    assert sorted(path.name for path in folder.iterdir()) == [
        f"network_{challenge_training.recipe()}_{seed}_240s_wall_1.safetensors" for seed in (1, 2)
    ]

    def again(*given: Any, **more: Any) -> None:
        raise AssertionError("a training that is kept is not repeated")

    monkeypatch.setattr(challenge, "train", again)
    challenge.main([*words, "--out", str(out)])
    assert out.read_text() == text
    monkeypatch.setattr(challenge, "recipe", lambda: "another")
    with pytest.raises(AssertionError, match="not repeated"):
        challenge.main([*words, "--out", str(out)])


def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        challenge.main(["--qsar", str(tmp_path / "none.csv"), "--out", str(tmp_path / "x.md")])
    assert caught.value.code == 3
    assert capsys.readouterr().err.startswith("error: ")


def test_every_goal_must_be_reached() -> None:
    assert passes(pd.Series(GOALS))
    for name in GOALS:
        assert not passes(pd.Series(GOALS | {name: GOALS[name] - 1e-4}))


def scored(qsar: float, qsar_mixed: float) -> pd.DataFrame:
    rows = []
    for split in (42, 0):
        for method, last in ((ALONE, qsar), (MIXED, qsar_mixed)):
            for seed in (1, 2):
                given = dict.fromkeys(GOALS, 0.995) | {"qsar-biodeg": last + 0.001 * seed if split else 0.5}
                rows += [
                    {"seed": seed, "split": split, "table": n, "method": method, "auc": a} for n, a in given.items()
                ]
        rows += [{"seed": np.nan, "split": split, "table": n, "method": LOGISTIC, "auc": 0.5} for n in GOALS]
    return pd.DataFrame(rows)


def test_the_report_counts_the_trainings_that_reach_every_goal() -> None:
    options = challenge.arguments(["--seeds", "1", "2", "--splits", "1"])
    facts = [{"seed": seed, "steps": 7, "tables": 9, "loss": 0.5, "wall": 240.0} for seed in (1, 2)]
    text = report(scored(0.9185, 0.93), facts, options, "a machine")
    assert f"| {ALONE} | 0.9950 | 0.9950 | 0.9950 | 0.9200 | 1 of 2 |" in text
    assert f"| {MIXED} | 0.9950 | 0.9950 | 0.9950 | 0.9315 | 2 of 2 |" in text
    assert f"| {LOGISTIC} | 0.5000 | 0.5000 | 0.5000 | 0.5000 | no |" in text
    assert f"| {ALONE} | 1 | 0.9950 | 0.9950 | 0.9950 | 0.9195 | no |" in text
    assert f"| {ALONE} | 2 | 0.9950 | 0.9950 | 0.9950 | 0.9205 | yes |" in text
    assert "## 1 further split\n" in text
    assert f"| {ALONE} | 0.9950 | 0.9950 | 0.9950 | 0.5000 |" in text
    assert "0.7330 | no |" in text
    assert "| 1 | 7 | 9 | 0.500 | 240 |" in text
    assert "by the clock, with the start of the processes, 2 processes of one thread" in text


def test_rate_rises_and_falls_to_zero() -> None:
    assert rate(0.0) == pytest.approx(0.02)
    assert rate(0.1) == rate(0.49) == 1.0
    assert rate(0.75) == pytest.approx(0.5)
    assert rate(1.0) == rate(1.2) == 0.0


def test_parts_of_a_step_have_one_size_and_other_tables() -> None:
    one, other = (draw(0.9, 5, part, 1) for part in range(PARTS))
    assert one.x.shape == other.x.shape
    assert one.context == other.context
    assert not torch.equal(one.x, other.x)
    torch.testing.assert_close(draw(0.9, 5, 0, 1).x, one.x)
    assert not torch.equal(draw(0.9, 6, 0, 1).x[0, 0, :2], one.x[0, 0, :2])


def test_tables_grow_with_the_time() -> None:
    largest = {share: max(draw(share, step, 0, 1).x.shape[2] for step in range(20)) for share in (0.0, 0.4, 1.0)}
    assert largest[0.0] <= 6 < 36 <= largest[1.0]
    assert largest[0.4] < largest[1.0]


def test_easy_tables_come_first_and_large_ones_last(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def batches(sizes: Any, options: Any, *given: Any, **more: Any) -> list[None]:
        seen.append((sizes, options))
        return [None] * 100

    monkeypatch.setattr(challenge_training, "ScmBatches", batches)
    monkeypatch.setattr(challenge_training, "LATE", 1.0)
    for share in (0.1, 0.2, 0.9):
        for step in range(20):
            draw(share, step, 0, 1)
    assert [options for _, options in seen] == [challenge_training.EASY] * 20 + [challenge_training.WIDE] * 40
    least, most = challenge_training.LARGE.rows
    assert all(least <= sizes.rows[0] <= most for sizes, _ in seen[40:])
    assert min(sizes.rows[0] for sizes, _ in seen[20:40]) < least


def test_the_rate_is_that_of_the_share(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    monkeypatch.setattr(challenge_training, "rate", lambda share: 0.0)
    network = new_network(2)
    learn(network, 2, Clock(0.0, 1.0), 0, 1)
    for given, fresh in zip(network.parameters(), new_network(2).parameters(), strict=True):
        torch.testing.assert_close(given, fresh, rtol=0, atol=0)


def test_a_step_averages_the_gradients_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process takes both parts; its gradient is the mean of those of two processes."""
    monkeypatch.setattr(challenge_training, "CELLS", 300)
    monkeypatch.setattr(Clock, "reader", lambda clock, processes: iter([0.0, 1.0]).__next__)
    network = new_network(3)
    kept: list[torch.Tensor] = []
    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", lambda parameters, most: kept.append(flat(network)))
    learn(network, 3, Clock(0.0, 1.0), 0, 1)
    single = []
    for part in range(PARTS):
        fresh = new_network(3)
        loss_of(fresh, draw(0.0, 0, part, 3)).backward()
        single.append(flat(fresh))
    torch.testing.assert_close(kept[0], torch.stack(single).mean(0), rtol=1e-4, atol=1e-6)


def flat(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def test_processes_share_gradients_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    network = new_network(3)
    loss_of(network, draw(0.0, 0, 0, 3)).backward()
    before = flat(network)

    def reduce(values: torch.Tensor) -> None:
        values += torch.cat([torch.ones(len(values) - 1), torch.tensor([0.5])])

    monkeypatch.setattr("torch.distributed.all_reduce", reduce)
    assert averaged(network, 0.25, 2) == pytest.approx(0.375)
    torch.testing.assert_close(flat(network), (before + 1) / 2)
    assert averaged(new_network(3), 0.25, 2) == pytest.approx(0.375)  # before the first step


def test_a_training_ends_before_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the last one's length would end too late; the start of the processes is no step."""
    monkeypatch.setattr(challenge_training, "CELLS", 300)
    shares = iter([0.45, 0.6, 0.75, 0.9, 1.05])
    monkeypatch.setattr(Clock, "reader", lambda clock, processes: lambda: next(shares))
    assert learn(new_network(0), 0, Clock(0.0, 1.0), 0, 1)["steps"] == 3


def test_cpu_time_is_that_of_all_processes_over_two(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([5.0, 65.0, 5.0, 65.0])
    monkeypatch.setattr("time.process_time", lambda: next(moments))
    assert Clock(0.0, 240.0, cpu=True).reader(1)() == pytest.approx(1 / 8)
    assert Clock(0.0, 240.0, cpu=True).reader(2)() == pytest.approx(1 / 4)
    monkeypatch.setattr("time.time", lambda: 160.0)
    assert Clock(100.0, 240.0).reader(2)() == pytest.approx(1 / 4)


def test_a_weight_file_holds_network_and_training(tmp_path: Path, quick: None) -> None:
    train(tmp_path / "new" / "net.safetensors", 4, 240.0, 1, cpu=False)
    facts = read(tmp_path / "new" / "net.safetensors")[1]["training"]
    assert facts["steps"] == 3
    drawn = (draw(share, step, part, 4) for step, share in enumerate((0.0, 0.3, 0.6)) for part in range(PARTS))
    assert facts["tables"] == sum(len(batch.x) for batch in drawn)
    trained, fresh = load_network(tmp_path / "new" / "net.safetensors"), new_network(4)
    assert trained.classes == 3
    assert not torch.equal(trained.state_dict()["cells.linear.weight"], fresh.state_dict()["cells.linear.weight"])


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    train(tmp_path / "net.safetensors", 0, 25.0, 2, cpu=False)
    assert read(tmp_path / "net.safetensors")[1]["training"]["steps"] > 0


def test_wrong_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--seconds=0"], "seconds must be greater than 0, got 0"),
        (["--processes=3"], "argument --processes: invalid choice: 3"),
        (["--seeds", "1", "-1"], "seeds must be at least 0, got -1"),
        (["--splits=-1"], "splits must be at least 0, got -1"),
    ):
        with pytest.raises(SystemExit) as caught:
            challenge.arguments(words)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err.replace("\n", " ")
