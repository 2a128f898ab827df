"""Iris protocol of DeepWeightFlow: its networks, what they are compared with, and its report."""

import sys
from pathlib import Path

import pytest
import torch

from benchmarks.zoo_iris import Row, accuracy, arguments, gaussian, main, report_rows
from benchmarks.zoo_iris_networks import ENTRY, INITIAL, Iris, iris, original_samples, train_networks
from tabattn.zoo.sampling import as_tokens

ORIGINAL = """
import json
from argparse import Namespace
from pathlib import Path

import torchvision
from torch import nn

import utils

device = None


def load_config(path):
    return json.loads(Path(path).read_text())


def get_permuted_models_data(model_dir):
    return None, [], []


def print_stats(models, loader, device):
    raise AssertionError


def train_standard_model(options, config, chosen, model_dir, loader):
    original, permuted = get_permuted_models_data(model_dir=model_dir)
    for width in chosen["flow_hidden_dims"]:
        if width == options.hidden_dim:
            state = utils.load(f"{model_dir}/mlp_xavier_seed0.pt")
            one = Namespace(fc1=nn.Linear(4, 16), fc2=nn.Linear(16, 3))
            for name, value in state.items():
                layer, kind = name.split(".")
                getattr(getattr(one, layer), kind).data = value * chosen["n_iters"]
            mean, std = print_stats([one], loader, device)
"""
"""A program with the interface of the original's, which generates its first network times the number of its steps."""


def small(classes: int = 3) -> Iris:
    torch.manual_seed(0)
    x, x_test = torch.randn(32, 4), torch.randn(20, 4)
    return Iris(x, x.argmax(1) % classes, x_test, x_test.argmax(1) % classes)


def test_iris_has_rows_of_all_classes_for_the_test() -> None:
    data = iris()
    assert data.x.shape == (120, 4)
    assert torch.equal(data.y_test.bincount(), torch.tensor([10, 10, 10]))
    torch.testing.assert_close(data.x.mean(0), torch.zeros(4), atol=1e-5, rtol=0)


def test_a_network_is_trained_as_if_it_were_alone() -> None:
    """The gradient of a network is that of its own mean cross-entropy: the first step of Adam has its signs."""
    data = small()._replace(x=small().x[:16], y=small().y[:16])
    (before, *_), (after, *_) = (train_networks(data, 7, 0, epochs) for epochs in (0, 1))
    torch.nn.functional.cross_entropy(before(data.x), data.y).backward()
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        assert old.grad is not None
        large = old.grad.abs() > 1e-4
        assert large.any()
        torch.testing.assert_close((new - old)[large], -1e-3 * old.grad.sign()[large], atol=1e-5, rtol=0)


def test_kinds_of_initial_weights() -> None:
    networks = train_networks(small(), 100, 0, 0)
    first = torch.stack([network[0].weight.detach() for network in networks])  # type: ignore[misc]
    std = [float(first[number :: len(INITIAL)].std()) for number in range(len(INITIAL))]
    expected = [(6 / 20 / 3) ** 0.5, (2 / 4) ** 0.5, 0.02, 0.1 / 3**0.5, 0.5 / 3**0.5]
    assert std == pytest.approx(expected, rel=0.05)
    assert len(first.flatten(1).unique(dim=0)) == 100
    assert all((network[0].bias == 0).all() for network in networks)


def test_accuracy_is_that_of_the_modules() -> None:
    data = small()
    networks = train_networks(data, 4, 1, 3)
    expected = [(network(data.x_test).argmax(1) == data.y_test).float().mean() for network in networks]
    torch.testing.assert_close(accuracy(as_tokens(networks), data), torch.stack(expected))


def test_the_normal_distribution_has_the_moments_of_the_networks() -> None:
    tokens = as_tokens(train_networks(small(), 10, 0, 0))
    drawn = gaussian(tokens, 4000, torch.Generator().manual_seed(0))
    for name in ("weight", "bias"):
        true, found = getattr(tokens, name), getattr(drawn, name)
        torch.testing.assert_close(found.mean(0), true.mean(0), atol=0.05, rtol=0)
        torch.testing.assert_close(found.std(0, correction=0), true.std(0, correction=0), atol=0.05, rtol=0.05)
    assert torch.equal(drawn.edge, tokens.edge[:1].expand_as(drawn.edge))


def test_rows_of_the_report_are_over_seeds() -> None:
    runs = [
        {"a": Row(torch.tensor([0.5, 1.0]), 1.0, 2.0, True)},
        {"a": Row(torch.tensor([0.75, 0.75]), 2.0, 4.0, False)},
    ]
    assert report_rows(runs) == [["a", "75.0 ± 20.4", "1.50", "3.00", "1 of 2"]]


def test_the_original_is_run_by_its_own_program(tmp_path: Path) -> None:
    folder = tmp_path / ENTRY.parent
    folder.mkdir()
    (tmp_path / ENTRY).write_text(ORIGINAL)
    (folder / "utils.py").write_text("import datasets, torch\nload = torch.load\n")
    (folder / "constants.json").write_text('{"models": {"mlp_iris": {"flow_hidden_dims": [8], "n_iters": 3}}}')
    networks, before = train_networks(small(), 3, 0, 1), set(sys.modules)
    for steps, times in ((None, 3), (5, 5)):
        (made,) = original_samples(tmp_path, networks, 8, 0, steps)
        for own, given in zip(made.parameters(), networks[0].parameters(), strict=True):
            assert torch.equal(own, times * given)
    assert not {"utils", "datasets", "torchvision", ENTRY.stem} & (set(sys.modules) - before)
    assert str(folder) not in sys.path
    with pytest.raises(ValueError, match=r"hidden must be one of \[8\], got 9"):
        original_samples(tmp_path, networks, 9, 0)
    with pytest.raises(ValueError, match="networks must be at most 100, got 101"):
        original_samples(tmp_path, networks[:1] * 101, 8, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds=-1"], "seeds must be at least 0, got -1"),
        (["--epochs=0"], "epochs must be at least 1, got 0"),
        (["--original=."], "original: . is no checkout of it"),
        (["--data.path=a.h5"], "--data.path is not to be chosen"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        arguments(words)
    assert leaving.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_program(tmp_path: Path) -> None:
    out = tmp_path / "iris.md"
    main(["--seeds=0", "--epochs=2", "--trainer.max_steps=2", "--model.network.latent=8", f"--out={out}"])
    text = out.read_text()
    for kind in ("training networks", "trained, not shown", "averages of pairs, aligned", "sampled, prior `flow`"):
        assert f"\n| {kind} |" in text
    assert "\n| functional R2, median |" in text
