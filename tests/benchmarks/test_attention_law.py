"""Gap to the oracle by length: fits, resuming, refusals, and what cells share."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import attention_law
from benchmarks.attention_law import Cell, build, draw_tasks, rate, train
from benchmarks.attention_law_report import Law, laws, table

FEW = ["--lengths", "16", "24", "--steps=2", "--seeds=1", "--attentions", "Softmax", "Softmax+distances"]


def gaps_of(law: dict[str, float], lengths: tuple[int, ...] = (16, 32, 64)) -> pd.DataFrame:
    made = [(name, length, 2.0 * length**slope) for name, slope in law.items() for length in lengths]
    return pd.DataFrame(made, columns=["mechanism", "length", "gap"]).assign(seed=0, ll_oracle=1.0, ms_of_a_step=3.0)


def test_the_law_is_that_of_the_gaps() -> None:
    found = laws(gaps_of({"steep": 0.5, "flat": -0.25}))
    assert list(found) == ["flat", "steep"]
    assert found["steep"].slope == pytest.approx(0.5)
    assert found["flat"].slope == pytest.approx(-0.25)
    assert found["steep"].r2 == pytest.approx(1.0)


def test_the_law_of_scattered_gaps_explains_a_part() -> None:
    law = Law.fit([1, 1, 10, 10], [1, 10, 10, 100])
    assert law.slope == pytest.approx(1.0)
    assert law.r2 == pytest.approx(0.5)


@pytest.mark.parametrize("gap", [0.0, -0.1, float("nan")])
def test_gaps_without_a_logarithm_have_no_law(gap: float) -> None:
    with pytest.raises(ValueError, match="gaps must be above 0 to have a power law, got"):
        Law.fit([1, 2], [gap, gap])


def test_a_single_length_has_no_law_but_a_row() -> None:
    lines = table(gaps_of({"one": 0.5}, lengths=(16,)))
    assert lines[2] == "| one | 8.000 |  |  | 3.0 | 3.0 |"


def test_tasks_of_all_lengths_have_as_many_points_and_seeds_share_the_test() -> None:
    short, long = draw_tasks(16, 0, 1), draw_tasks(64, 0, 1)
    assert short.train[0].x.numel() == long.train[0].x.numel() == 1024
    assert [len(short.test) * len(batch.x) for batch in short.test] == [128] * 4
    assert short.test[0].context == 8 + 2
    other = draw_tasks(16, 1, 1)
    assert torch.equal(other.test[0].y, short.test[0].y)
    assert not torch.equal(other.train[0].y, short.train[0].y)


def test_the_bias_alone_tells_both_networks_of_a_mechanism_apart() -> None:
    plain, biased = (build(name, 0).state_dict() for name in ("Softmax", "Softmax+distances"))
    assert set(plain) < set(biased)
    assert all(torch.equal(value, biased[name]) for name, value in plain.items())


def test_training_lowers_the_loss() -> None:
    tasks = draw_tasks(16, 0, 40)
    untrained, trained = (
        attention_law.score(network, tasks.test)
        for network in (train(Cell("Softmax", 16, 0), []), train(Cell("Softmax", 16, 0), tasks.train))
    )
    assert trained > untrained


def test_the_rate_rises_and_falls() -> None:
    rates = [rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2, abs=0.01)
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[-1] < 0.001


def test_cells_that_are_done_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*FEW, f"--out={tmp_path / 'law.md'}"]
    attention_law.main(words)
    text = (tmp_path / "law.md").read_text()
    found = pd.read_csv(tmp_path / "law.csv")
    assert len(found) == 4
    assert (found["ll_oracle"] - found["ll"] - found["gap"]).abs().max() < 1e-3
    (tmp_path / "law.csv").write_text("\n".join((tmp_path / "law.csv").read_text().splitlines()[:-1]) + "\n")
    trained: list[Cell] = []

    def counted(cell: Cell, batches: list[object]) -> object:
        trained.append(cell)
        return train(cell, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(attention_law, "train", counted)
    attention_law.main(words)
    assert trained == [Cell("Softmax+distances", 24, 0)]
    assert pd.read_csv(tmp_path / "law.csv")["gap"].tolist() == pytest.approx(found["gap"].tolist())
    assert "--attentions Softmax Softmax+distances --lengths 16 24`" in text
    assert (tmp_path / "law.png").stat().st_size > 5000
    with pytest.raises(SystemExit):
        attention_law.arguments([*words, "--steps=3"])
    assert "steps must be 2, as in" in capsys.readouterr().err


def test_a_length_without_whole_parts_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        attention_law.arguments(["--lengths", "20"])
    assert "lengths must be multiples of 8" in capsys.readouterr().err
