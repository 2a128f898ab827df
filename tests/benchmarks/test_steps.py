"""Benchmark of training steps: every task and way is timed, and failures are listed."""

from pathlib import Path

import pytest
import torch

from benchmarks import steps
from benchmarks.steps import WAYS, arguments, build, flops, main, median, step
from tabattn.contract.batches import PairBatch

TINY = [
    "--model.network.dim=8",
    "--model.network.heads=2",
    "--model.network.hidden=8",
    "--model.network.layers=2",
    "--data.batch_size=2",
]


@pytest.fixture(autouse=True)
def _small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(steps.PRODUCT, "cpu", 32)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_a_report_of_every_task_and_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "steps.md"
    main(["--repeats=1", "--ways", "eager", "eager, bfloat16", "--out", str(out), *TINY])
    text = out.read_text()
    assert capsys.readouterr().out == text
    assert "--data.batch_size=2" in text
    table = rows(text)[2:]
    assert [row[:2] for row in table] == [[task, way] for way in ("eager", "eager, bfloat16") for task in steps.TASKS]
    assert [row[3] for row in table[:2]] == ["1.00", "1.00"]
    assert all(float(row[2]) > 0 and float(row[4]) > 0 for row in table)


@pytest.mark.parametrize("name", list(steps.TASKS))
def test_a_step_trains(name: str) -> None:
    training = build(name, arguments(TINY))
    before = [weight.clone() for weight in training.task.parameters()]
    run = step(training, WAYS["eager"])
    for _ in range(3):  # The last layer starts at zero, and lets no gradient through before its first step.
        run()
    moved = [bool((old != new).any()) for old, new in zip(before, training.task.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    assert training.clip == 1.0


@pytest.mark.parametrize("name", list(steps.TASKS))
def test_every_way_starts_where_the_first_did(name: str) -> None:
    """The optimizer is one object: what graphs make of its rates and its state must not reach the ways behind them."""
    training = build(name, arguments(TINY))

    def trained() -> list[torch.Tensor]:
        run = step(training, WAYS["eager"])
        for _ in range(3):
            run()
        return [weight.detach().clone() for weight in training.task.parameters()]

    first = trained()
    rates = [group["lr"] for group in training.optimizer.param_groups]
    for group in training.optimizer.param_groups:
        group |= {"capturable": True, "lr": torch.tensor(0.5)}
    assert all(map(torch.equal, trained(), first))
    assert [group["lr"] for group in training.optimizer.param_groups] == rates
    assert not any(group.get("capturable") for group in training.optimizer.param_groups)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.slow
def test_every_way_works_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(steps.PRODUCT, "cuda", 256)
    out = tmp_path / "steps.md"
    main(["--device=cuda", "--repeats=2", "--out", str(out), *TINY])
    text = out.read_text()
    assert [row[:2] for row in rows(text)[2:]] == [[task, way] for way in WAYS for task in steps.TASKS]
    assert "Left out" not in text


@pytest.mark.parametrize("clip", [1e-3, None])
def test_gradients_are_clipped_as_configured(clip: float | None) -> None:
    training = build("prior", arguments(TINY))._replace(clip=clip)
    step(training, WAYS["eager"])()
    norm = torch.nn.utils.get_total_norm([p.grad for p in training.task.parameters() if p.grad is not None])
    assert norm.item() == pytest.approx(clip, rel=1e-3) if clip else norm.item() > 0.01


def test_the_batch_is_the_median_one() -> None:
    batches = [PairBatch(*[torch.zeros(2, size)] * 3, 1) for size in (5, 9, 2, 7, 3)]
    assert median(batches).x.shape == (2, 5)


def test_flops_are_those_of_matrix_products() -> None:
    """With an optimizer that has none, they grow with the batch."""
    training = build("pairs", arguments([*TINY, "--optimizer=torch.optim.AdamW"]))
    small = flops(training)
    large = flops(build("pairs", arguments([*TINY, "--optimizer=torch.optim.AdamW", "--data.batch_size=4"])))
    assert large == pytest.approx(2 * small)


def test_a_failure_is_reported_and_others_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(loss: object) -> object:
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr(torch, "compile", refuse)
    out = tmp_path / "steps.md"
    main(["--repeats=1", "--tasks", "pairs", "--ways", "compiled", "eager", "--out", str(out), *TINY])
    text = out.read_text()
    assert [row[:2] for row in rows(text)[2:]] == [["pairs", "eager"]]
    assert "- pairs, compiled: RuntimeError: no compiler\n" in text


def test_no_way_is_begun_after_the_deadline(tmp_path: Path) -> None:
    out = tmp_path / "steps.md"
    main(["--repeats=1", "--tasks", "pairs", "--deadline=1e-9", "--ways", "eager", "--out", str(out), *TINY])
    assert "- pairs, eager: no time\n" in out.read_text()


def test_bad_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, message in (
        (["--repeats=0"], "repeats must be at least 1, got 0"),
        (["--deadline=0"], "deadline must be greater than 0, got 0"),
        (["--ways", "graph"], "graph needs --device cuda, got cpu"),
        (["--data.batch_size", "4"], "unrecognized argument --data.batch_size"),
        (["--out", "steps.csv"], "must be a file that ends in .md, got steps.csv"),
    ):
        with pytest.raises(SystemExit):
            arguments(argv)
        assert message in capsys.readouterr().err
