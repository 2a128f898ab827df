"""Constructor arguments in checkpoints: round trip, and refusal of those that cannot be saved."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from tabattn.attention import Linear, Local, Mechanism, Softmax, TopK
from tabattn.contract.batches import PairBatch, TableBatch
from tabattn.pairs import NETWORKS, TNPA, TNPD
from tabattn.prior import PriorNetwork, PriorOptions
from tabattn.storage.hyperparameters import plain
from tabattn.tasks import PairInference, PriorClassification, Task

pytestmark = pytest.mark.filterwarnings("ignore:Attribute")

SMALL = {"dim": 8, "heads": 2, "hidden": 8, "layers": 2}
TASKS: dict[str, type[Task]] = {"prior": PriorClassification, "pairs": PairInference}
SIZES: dict[str, dict[str, Any]] = {
    "prior": {"network": partial(PriorNetwork, **SMALL)},
    "pairs": {"network": partial(TNPD, **SMALL)},
}
SITES = [
    ("prior", "attention"),
    ("prior", "feature_attention"),
    ("prior", "target_attention"),
    ("pairs", "attention"),
    ("pairs", "target_attention"),
]


class Factory:
    """A callable object."""

    def __call__(self, heads: int, head_dim: int) -> Mechanism:
        return Softmax(heads, head_dim)


def module_level(heads: int, head_dim: int) -> Mechanism:
    return TopK(heads, head_dim, keep=2)


def unsaveable() -> dict[str, Any]:
    class Inner(Softmax):
        pass

    keep = 2
    return {
        "a lambda": lambda heads, dim: TopK(heads, dim, keep=2),
        "a closure": lambda heads, dim: TopK(heads, dim, keep=keep),
        "a function": module_level,
        "a local class": Inner,
        "a partial of a local class": partial(Inner, dropout=0.1),
        "a partial of a lambda": partial(lambda heads, dim, keep: TopK(heads, dim, keep=keep), keep=2),
        "a partial of a partial of a lambda": partial(
            partial(lambda h, d, keep: TopK(h, d, keep=keep), keep=2), keep=3
        ),
        "a partial of a function": partial(module_level),
        "a partial with a lambda inside": partial(TopK, keep=lambda: 2),
        "an object": Factory(),
        "a mechanism": Softmax(2, 4),
        "a bound method": Factory().__call__,
    }


@pytest.mark.parametrize(
    "form", [3, {"class_path": "tabattn.attention.Local"}, torch.nn.Linear, int, partial(dict, a=1)]
)
@pytest.mark.parametrize(("task", "site"), SITES)
def test_what_is_no_mechanism_is_refused(task: str, site: str, form: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{site} must be something that a checkpoint can name, got .*no Mechanism"):
        TASKS[task](**SIZES[task], **{site: form})


@pytest.mark.parametrize(("task", "site"), SITES)
def test_none_stands_for_no_mechanism_only_where_there_may_be_none(task: str, site: str) -> None:
    if site == "target_attention":
        TASKS[task](**SIZES[task], target_attention=None)
        return
    with pytest.raises(ValueError, match=rf"^{site} must be .* got something that is no Mechanism, NoneType: give"):
        TASKS[task](**SIZES[task], **{site: None})


@pytest.mark.parametrize(("task", "site"), SITES)
def test_a_name_that_no_mechanism_has(task: str, site: str) -> None:
    with pytest.raises(ValueError, match=rf"^{site} must be one of Softmax, .* got 'softmx' \(did you mean Softmax"):
        TASKS[task](**SIZES[task], **{site: "softmx"})


def test_an_attention_of_the_network_alone_is_checked_too() -> None:
    rows = partial(PriorNetwork, **SMALL, options=PriorOptions(order="rows", summaries=1, row_layers=1))
    with pytest.raises(ValueError, match=r"^cell_attention must be .*something that is no Mechanism, int"):
        PriorClassification(partial(rows, cell_attention=int))
    with pytest.raises(ValueError, match=r"^cell_attention must be one of .* got 'softmx' \(did you mean Softmax"):
        PriorClassification(partial(rows, cell_attention="softmx"))
    made = PriorClassification(partial(rows, cell_attention="Linear")).network.blocks[0]
    assert isinstance(made.rows.attention.mechanism, Linear)


def batch_of(task: Task) -> Any:
    if isinstance(task, PairInference):
        return PairBatch(torch.rand(2, 9), torch.randn(2, 9), torch.arange(9).expand(2, -1) % 2, 5)
    return TableBatch(torch.randn(2, 9, 3), torch.arange(9).expand(2, -1) % 2, 5)


def save(task: Task, path: Path) -> Path:
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize("form", unsaveable())
@pytest.mark.parametrize(("task", "site"), [*SITES, ("pairs", "network")])
def test_what_cannot_be_saved_is_refused_with_the_forms_that_can(task: str, site: str, form: str) -> None:
    with pytest.raises(ValueError, match=rf"^{site} must be something that a checkpoint can name, got .*partial\(<cl"):
        TASKS[task](**{**SIZES[task], site: unsaveable()[form]})


@pytest.mark.parametrize(
    "form",
    [
        TopK,
        "TopK",
        partial(TopK, keep=2),
        partial(partial(TopK, keep=5, block=3), keep=2),
        partial(TopK, keep=np.int64(2)),
    ],
    ids=["class", "name", "partial", "nested", "numpy"],
)
@pytest.mark.parametrize(("task", "site"), SITES)
def test_what_can_be_saved_gives_the_same_answers_when_loaded_and_saved_again(
    task: str, site: str, form: Any, tmp_path: Path
) -> None:
    first = TASKS[task](**SIZES[task], **{site: form}).eval()
    second = TASKS[task].load_from_checkpoint(save(first, tmp_path / "first.ckpt")).eval()
    third = TASKS[task].load_from_checkpoint(save(second, tmp_path / "second.ckpt")).eval()
    sites = [[repr(module) for module in each.modules() if isinstance(module, Mechanism)] for each in (first, third)]
    assert sites[0] == sites[1]
    answers = [each.network(*batch_of(each)[:4]) for each in (first, second, third)]
    means = [answer if isinstance(answer, torch.Tensor) else answer.mean for answer in answers]
    assert torch.equal(means[0], means[1])
    assert torch.equal(means[0], means[2])


@pytest.mark.parametrize("form", ["TNPA", TNPA, partial(TNPA, dim=8, heads=2, layers=np.int64(1))])
def test_a_network_comes_back_with_its_options(form: Any, tmp_path: Path) -> None:
    first = PairInference(form).eval()
    second = PairInference.load_from_checkpoint(save(first, tmp_path / "first.ckpt")).eval()
    third = PairInference.load_from_checkpoint(save(second, tmp_path / "second.ckpt")).eval()
    assert type(third.network) is TNPA
    batch = batch_of(first)
    assert first(batch).mean.equal(second(batch).mean)
    assert first(batch).mean.equal(third(batch).mean)


def test_a_name_of_no_network_is_said() -> None:
    with pytest.raises(ValueError, match=rf"network must be one of {', '.join(NETWORKS)}, got 'tnpa' \(did you mean"):
        PairInference("tnpa")  # type: ignore[arg-type]


def test_a_local_mechanism_comes_back_as_one(tmp_path: Path) -> None:
    task = PriorClassification(partial(PriorNetwork, **SMALL), attention=partial(Local, window=3))
    again = PriorClassification.load_from_checkpoint(save(task, tmp_path / "task.ckpt"))
    windows = [module.window for module in again.modules() if isinstance(module, Local)]
    assert windows
    assert set(windows) == {3}


def test_a_name_of_no_mechanism_is_said() -> None:
    with pytest.raises(ValueError, match=r"attention must be one of Softmax, .*, got 'local' \(did you mean Local\?\)"):
        PriorClassification(partial(PriorNetwork, **SMALL), attention="local")  # type: ignore[arg-type]


def test_nested_arguments_become_plain() -> None:
    given = {"a": (partial(TopK, keep=np.int64(2)), [Path("x")]), "b": np.float32(0.5)}
    topk = {"class_path": "tabattn.attention.TopK", "init_args": {"keep": 2}}
    assert plain(given) == {"a": (topk, ["x"]), "b": 0.5}
