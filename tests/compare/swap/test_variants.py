"""Variants of a trained task: which mechanisms its weights fit, and that they are left as they are."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from tabattn.attention import Entmax, Inducing, Local, Softmax
from tabattn.compare.swap.mechanisms import Choice, chosen, default_choices, label_of
from tabattn.compare.swap.trained import Trained, build, read_trained, unmatched
from tabattn.compare.swap.variants import original, places, swappable, variant
from tabattn.prior.network import PriorNetwork
from tabattn.tasks import PriorClassification, SparsefinderProjections

SIZES: dict[str, Any] = {"dim": 16, "heads": 2, "hidden": 16, "layers": 2, "classes": 3}


def saved(folder: Path, attention: Any, **options: Any) -> Trained:
    """Classifier with an attention, as read from its checkpoint."""
    task = PriorClassification(partial(PriorNetwork, **SIZES), attention=attention, **options)
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.normal_(std=0.3)
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(folder / "task.ckpt", weights_only=True)
    return read_trained(str(folder / "task.ckpt"))


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    return saved(tmp_path, Softmax)


def only(text: str) -> Choice:
    """The one mechanism of a text."""
    (choice,) = chosen([text])
    return choice


def kinds(task: Any) -> set[str]:
    """Mechanisms between the rows of a classifier."""
    return {type(block.rows.attention.mechanism).__name__ for block in task.network.blocks}


def test_weights_are_shared_and_left_as_they_are(trained: Trained) -> None:
    before = {name: value.clone() for name, value in trained.weights.items()}
    first = original(trained, ["attention"]).task
    other = variant(trained, only("Linear"), ["attention"]).task
    assert first is not None
    assert other is not None
    assert kinds(first) == {"Softmax"}
    assert kinds(other) == {"Linear"}
    for task in (first, other):
        state = task.state_dict()
        assert not any(parameter.requires_grad for parameter in task.parameters())
        assert all(state[name].data_ptr() == value.data_ptr() for name, value in trained.weights.items())
    x, y = torch.randn(1, 9, 3), torch.randint(3, (1, 9))
    assert not torch.equal(first.network(x, y, 6), other.network(x, y, 6))
    assert all(torch.equal(value, before[name]) for name, value in trained.weights.items())


def test_the_random_state_is_left_as_it_is(trained: Trained) -> None:
    state = torch.get_rng_state()
    build(trained, {"attention": {"class_path": "tabattn.attention.Pooling"}})
    assert torch.equal(state, torch.get_rng_state())


def test_a_mechanism_that_answers_no_target_rows_leaves_them_to_softmax(trained: Trained) -> None:
    task: Any = variant(trained, only("Local:window=2"), ["attention"]).task
    first, last = (block.rows for block in task.network.blocks)
    assert isinstance(first.attention.mechanism, Local)
    assert first.attention.mechanism.window == 2
    assert isinstance(first.outside, Softmax)
    assert isinstance(last.attention.mechanism, Softmax)


def test_weights_of_its_own_need_training(trained: Trained) -> None:
    choice = only("Inducing:points=3")
    made = variant(trained, choice, ["attention"])
    assert made.task is None
    assert made.reason == "needs training, of inducing"
    assert all(name.endswith(".inducing") for name in made.untrained)
    wanted = variant(trained, choice, ["attention"], untrained=True)
    assert wanted.task is not None
    assert wanted.reason == made.reason


def test_trained_weights_that_are_left_out_are_said(tmp_path: Path) -> None:
    trained = saved(tmp_path, partial(Entmax, learn_alpha=True))
    made = variant(trained, only("Softmax"), ["attention"])
    assert made.task is not None
    assert made.reason == "leaves out alpha_logit"
    assert unmatched(trained, original(trained, ["attention"]).task or made.task) == ([], [])


def test_weights_of_the_same_shape_are_taken_over(tmp_path: Path) -> None:
    trained = saved(tmp_path, partial(Inducing, points=3))
    assert variant(trained, only("Inducing:points=3:dropout=0.1"), ["attention"]).untrained == ()
    assert variant(trained, only("Inducing:points=4"), ["attention"]).untrained != ()


def test_a_refusal_of_the_network_is_the_reason(tmp_path: Path) -> None:
    trained = saved(tmp_path, Softmax)
    single = trained.arguments["network"]
    single["init_args"] |= {"layers": 1}
    made = variant(trained, only("Local:window=2"), ["attention"])
    assert made.task is None
    assert made.reason == "layers must be at least 2 for attention Local, got 1"


def test_weights_of_another_network_are_refused(trained: Trained) -> None:
    trained.arguments["network"]["init_args"] |= {"layers": 3}
    with pytest.raises(ValueError, match=r"task.ckpt does not hold the weights of its network: "):
        original(trained, ["attention"])


def test_the_trained_mechanism_is_not_swapped_for_itself(tmp_path: Path) -> None:
    trained = saved(tmp_path, partial(Local, window=3))
    found = swappable(trained, chosen(["Local:window=3", "Local:window=4", "Softmax"]), ["attention"])
    assert [choice.label for choice in found] == ["Local:window=4", "Softmax"]
    assert original(trained, ["attention"]).choice.label == "Local:window=3"
    # Softmax between columns is another mechanism than the Local between rows.
    both = swappable(trained, chosen(["Local:window=3"]), ["attention", "feature_attention"])
    assert [choice.label for choice in both] == ["Local:window=3"]


def test_the_default_choices_hold_every_mechanism() -> None:
    from tabattn.attention import MECHANISMS

    assert {choice.attention for choice in default_choices()} == set(MECHANISMS)


@pytest.mark.parametrize("name", ["Softmax", "Local", "TopK", "Entmax", "Sparsefinder", "Pooling"])
def test_labels_name_the_settings_that_are_not_the_defaults(name: str) -> None:
    assert label_of({"class_path": f"tabattn.attention.{name}", "init_args": {}}).label == name


def test_settings_are_read_as_they_are_written() -> None:
    choice = only("Local:window=3:edges=zero")
    assert choice.options == {"window": 3, "edges": "zero"}
    assert label_of(choice.described).label == "Local:window=3:edges=zero"


def test_shipped_weights_are_those_of_the_estimators() -> None:
    from tabattn.pairs.weights import load_network as load_pairs
    from tabattn.prior.weights import load_network

    for source, own in (("shipped", load_network()), ("const", load_pairs("const").network)):
        task = original(read_trained(source), ["attention"]).task
        assert task is not None
        state = own.state_dict()
        assert state.keys() == task.network.state_dict().keys()
        assert all(torch.equal(value, state[name]) for name, value in task.network.state_dict().items())


def test_a_task_without_attention_has_nothing_to_swap() -> None:
    with pytest.raises(ValueError, match="SparsefinderProjections, which has no attention: nothing to swap"):
        places(Trained(SparsefinderProjections, {}, {}, "x.ckpt"), "rows")
