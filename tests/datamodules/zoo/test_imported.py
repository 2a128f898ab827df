"""Import of users' networks: modules and folders of state dictionaries."""

import copy
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from datamodules import NetworkZoo
from datamodules.zoo.imported import Table, import_folder, import_networks
from datamodules.zoo.zoo_file import read_zoo
from tabattn.contract.errors import DataError, TableWarning
from tabattn.contract.modules import UnsupportedModule, to_module


def made(seed: int, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6, bias=bias), nn.ReLU(), nn.Linear(6, 3))


@pytest.fixture
def table() -> Table:
    source = np.random.default_rng(0)
    x = source.normal(size=(60, 4))
    return Table(x, np.asarray(["low", "mid", "top"])[np.digitize(x[:, 0], (-0.5, 0.5))], labels=True)


def exchanged(network: nn.Sequential) -> nn.Sequential:
    """A copy with two hidden neurons exchanged."""
    other = copy.deepcopy(network)
    order = [1, 0, 2, 3, 4, 5]
    with torch.no_grad():
        other[0].weight.copy_(network[0].weight[order])
        other[0].bias.copy_(network[0].bias[order])
        other[2].weight.copy_(network[2].weight[:, order])
    return other


def test_modules_come_back_bit_for_bit(tmp_path: Path, table: Table) -> None:
    networks = [made(seed) for seed in range(12)]
    zoo = read_zoo(import_networks(tmp_path / "a.h5", networks, table))
    for number, network in enumerate(networks):
        again = to_module(zoo.population[number])
        assert all(torch.equal(one, other) for one, other in zip(network.parameters(), again.parameters(), strict=True))
    assert zoo.architectures == ("4-6relu-3",)
    assert set(zoo.models["arch"]) == {0}
    assert sorted(zoo.models["run"]) == list(range(12))
    assert (zoo.tasks.classes, zoo.tasks.columns) == (3, 4)
    assert np.isfinite(zoo.meta).sum() > 20


def test_scores_are_of_probabilities_where_targets_are_classes(tmp_path: Path, table: Table) -> None:
    zoo = read_zoo(import_networks(tmp_path / "a.h5", [made(0)], table))
    own = zoo.tasks.part[0] == 2
    found = made(0)(torch.from_numpy(zoo.tasks.x[0, own])).softmax(1).detach().numpy()
    target = zoo.tasks.y[0, own]
    assert set(target.flat) == {0, 1}
    expected = 1 - np.square(found - target).sum() / np.square(target - target.mean(0)).sum()
    assert zoo.models["test_r2"][0] == pytest.approx(expected, abs=1e-5)


def test_numbered_classes_are_guessed_by_the_outputs(tmp_path: Path, table: Table) -> None:
    x, words = np.asarray(table.x), np.asarray(table.y)
    codes = np.unique(words, return_inverse=True)[1]
    named = read_zoo(import_networks(tmp_path / "a.h5", [made(0)], Table(x, words)))
    assert named.tasks.classes == 3
    with pytest.warns(TableWarning, match="table 0 has 3 whole numbers and its networks 3 outputs: read as classes"):
        import_networks(tmp_path / "b.h5", [made(0)], Table(x, codes.astype(float)))
    assert np.array_equal(read_zoo(tmp_path / "b.h5").tasks.y, named.tasks.y)
    # Numbers of outputs, of which a table may lack one; told that they are classes, any others in their order.
    for y, given in ((np.where(codes == 1, 2, codes), {}), (np.where(codes == 1, 2, codes), {"labels": True})):
        with nullcontext() if given else pytest.warns(TableWarning, match="2 whole numbers"):
            zoo = read_zoo(import_networks(tmp_path / "c.h5", [made(0)], Table(x, y, **given), overwrite=True))
        assert zoo.tasks.classes == 3
        assert np.nansum(zoo.tasks.y[0], axis=0).tolist() == [(codes == 0).sum(), 0, (codes > 0).sum()]
    zoo = read_zoo(import_networks(tmp_path / "d.h5", [made(0)], Table(x, 10 * codes - 7, labels=True)))
    assert np.array_equal(zoo.tasks.y, named.tasks.y)
    for y in (codes + 0.5, codes * (np.arange(60) % 5), np.ones(60)):
        with pytest.raises(ValueError, match="its table has 4 columns and 1 targets"):
            import_networks(tmp_path / "e.h5", [made(0)], Table(x, y))


def test_two_numbers_are_classes_of_a_logit_if_that_is_said(tmp_path: Path, table: Table) -> None:
    x = np.asarray(table.x, np.float32)
    y = 3 + (x[:, 0] > 0)
    network = nn.Sequential(nn.Linear(4, 1))
    with pytest.warns(TableWarning, match="two whole numbers and its networks one output: read as numbers"):
        numbers = read_zoo(import_networks(tmp_path / "a.h5", [network], Table(x, y)))
    assert numbers.tasks.classes == 0
    assert set(numbers.tasks.y.flat) == {3, 4}
    zoo = read_zoo(import_networks(tmp_path / "b.h5", [network], Table(x, y, labels=True)))
    assert zoo.tasks.classes == 2
    own = zoo.tasks.part[0] == 2
    target = zoo.tasks.y[0, own]
    assert np.array_equal(target[:, 0], zoo.tasks.x[0, own, 0] > 0)
    found = network(torch.from_numpy(zoo.tasks.x[0, own])).sigmoid().detach().numpy()
    expected = 1 - np.square(found - target).sum() / np.square(target - target.mean(0)).sum()
    assert zoo.models["test_r2"][0] == pytest.approx(expected, abs=1e-5)
    told = read_zoo(import_networks(tmp_path / "c.h5", [network], Table(x, y, labels=False)))
    assert told.tasks.classes == 0
    truth = read_zoo(import_networks(tmp_path / "d.h5", [made(0)], Table(x, np.stack([y, y, y], 1))))
    assert truth.tasks.classes == 0


def test_batches_tell_of_classes(tmp_path: Path, table: Table) -> None:
    lines = Table(np.asarray(table.x), np.asarray(table.x)[:, 0])
    networks = [made(seed) if seed % 2 else nn.Sequential(nn.Linear(4, 1)) for seed in range(40)]
    path = import_networks(tmp_path / "a.h5", networks, [lines, table], task=[seed % 2 for seed in range(40)])
    data = NetworkZoo(str(path), rows=8, probes=4)
    batch = next(iter(data.val_dataloader()))
    assert batch.classes.tolist() == [3 * number for number in batch.task.tolist()]
    assert set(batch.task.tolist()) == {0, 1}
    alone = import_networks(tmp_path / "b.h5", networks[::2], lines)
    assert next(iter(NetworkZoo(str(alone), rows=8, probes=4).val_dataloader())).classes is None


def test_numbers_are_scored_in_the_units_of_the_outputs(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    line = nn.Linear(3, 1)
    y = 100 + line(torch.from_numpy(x))[:, 0].detach().numpy()
    with torch.no_grad():
        line.bias += 100
    zoo = read_zoo(import_networks(tmp_path / "a.h5", [nn.Sequential(line)], Table(x, y)))
    assert zoo.models["train_r2"][0] == pytest.approx(1, abs=1e-4)
    assert not zoo.models["constant"][0]
    rows = {row.tobytes() for row in x}
    assert {row.tobytes() for row in zoo.tasks.x[0]} == rows


def test_rows_are_shuffled_with_their_targets(tmp_path: Path) -> None:
    """A table sorted by its target has all of it in every part."""
    x = np.arange(100.0, dtype=np.float32)[:, None]
    rows = []
    for seed in (0, 1):
        zoo = read_zoo(import_networks(tmp_path / f"{seed}.h5", [nn.Linear(1, 1)], Table(x, 3 * x[:, 0]), seed=seed))
        rows.append(zoo.tasks.x[0, :, 0].tolist())
        assert np.array_equal(zoo.tasks.y[0], 3 * zoo.tasks.x[0])
        for part in range(3):
            own = zoo.tasks.x[0, zoo.tasks.part[0] == part]
            assert own.min() < 30
            assert own.max() > 70
    assert sorted(rows[0]) == sorted(rows[1]) == x[:, 0].tolist()
    assert rows[0] != rows[1]


def test_copies_stay_together_also_with_neurons_in_another_order(tmp_path: Path, table: Table) -> None:
    networks = [made(seed) for seed in range(20)]
    networks += [exchanged(networks[3]), copy.deepcopy(networks[7])]
    run = [*range(20), 90, 91]
    run[5] = run[4]
    zoo = read_zoo(import_networks(tmp_path / "a.h5", networks, table, run=run))
    number = zoo.models["run"]
    assert number[20] == number[3]
    assert number[21] == number[7]
    assert number[4] == number[5]
    assert len(set(number)) == 19
    part = zoo.splits["network"]
    assert part[20] == part[3]
    assert part[21] == part[7]


def test_networks_of_several_tables_and_sizes(tmp_path: Path, table: Table) -> None:
    x = np.random.default_rng(1).normal(size=(30, 2))
    networks = [made(0), nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)), made(1)]
    path = import_networks(tmp_path / "a.h5", networks, [table, Table(x, x.sum(1))], task=[0, 1, 0])
    zoo = read_zoo(path)
    assert zoo.tasks.x.shape == (2, 60, 4)
    assert zoo.tasks.columns.tolist() == [4, 2]
    assert np.isnan(zoo.tasks.y[1, :30, 1:]).all()
    assert sorted(zoo.architectures) == ["2-5tanh-1", "4-6relu-3"]
    data = NetworkZoo(str(path), rows=8, probes=4)
    assert (data.inputs, data.outputs, data.vertices, data.levels) == (4, 3, 13, 3)


def test_an_unsupported_module_is_named(tmp_path: Path, table: Table) -> None:
    odd = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.BatchNorm1d(6)), nn.Linear(6, 3))
    with pytest.raises(UnsupportedModule, match=r"module '1\.1\.0' is a BatchNorm1d; a network may have Linear"):
        import_networks(tmp_path / "a.h5", [made(0), odd], table)
    with pytest.raises(UnsupportedModule, match=r"module '0' is a Conv2d"):
        import_networks(tmp_path / "a.h5", [nn.Conv2d(1, 1, 1)], table)
    with pytest.raises(ValueError, match=r"network 0: layer '0' has numbers of type torch.float64"):
        import_networks(tmp_path / "a.h5", [made(0).double()], table)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": []}, "a zoo has at least 1 network and 1 table, got 0 and 1"),
        ({"tables": []}, "a zoo has at least 1 network and 1 table, got 1 and 0"),
        (
            {"networks": [nn.Sequential(nn.Linear(3, 3))]},
            "network 0 has 3 inputs and 3 outputs, its table",
        ),
        ({"task": [1]}, "task must be 0 to 0, got 1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"run": [1, 2]}, "run must have a number for each of 1 networks, got 2"),
        ({"tables": Table(np.ones((5, 4)), np.ones(5))}, r"of at least 10 rows, got \(5, 4\) and \(5,\)"),
        ({"tables": Table(np.full((20, 4), np.nan), np.ones(20))}, "table 0 must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, table: Table, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_networks(tmp_path / "a.h5", **{"networks": [made(0)], "tables": table, **changes})  # type: ignore[arg-type]


def test_a_folder_of_state_dictionaries(tmp_path: Path, table: Table) -> None:
    folder = tmp_path / "nets"
    (folder / "run").mkdir(parents=True)
    torch.save(made(0).state_dict(), folder / "a2.pt")
    torch.save({"state_dict": made(1).state_dict(), "epoch": 3}, folder / "a10.pth")
    layers = {"0": "net.fc1", "2": "net.fc2"}
    renamed = {f"{layers[name[0]]}{name[1:]}": each for name, each in made(2).state_dict().items()}
    save_file(renamed, folder / "b.safetensors")
    for step in (1, 2, 10):
        torch.save(made(10 + step).state_dict(), folder / f"run/step{step}.pt")
    (folder / "notes.txt").write_text("no network")
    for number, architecture in enumerate(("4-6relu-3", "relu", made(9))):
        zoo = read_zoo(import_folder(tmp_path / f"{number}.h5", folder, architecture, table))
        order = [0, 1, 2, 11, 12, 20]
        for place, seed in enumerate(order):
            again = to_module(zoo.population[place])
            same = zip(made(seed).parameters(), again.parameters(), strict=True)
            assert all(torch.equal(one, other) for one, other in same)
        assert zoo.models["frac"].tolist() == pytest.approx([1, 1, 1, 1 / 3, 2 / 3, 1])
        assert len(set(zoo.models["run"][:4])) == 4
        assert len(set(zoo.models["run"][3:])) == 1


def test_a_layer_without_bias_is_seen(tmp_path: Path, table: Table) -> None:
    torch.save(made(0, bias=False).state_dict(), tmp_path / "a.pt")
    for architecture in ("4-6relu/-3", "relu"):
        zoo = read_zoo(import_folder(tmp_path / "zoo.h5", tmp_path, architecture, table, overwrite=True))
        assert to_module(zoo.population[0])[0].bias is None


class Harm:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('harm')",)


@pytest.mark.parametrize(
    ("content", "architecture", "kind", "message"),
    [
        (Harm(), "relu", DataError, r"a\.pt is damaged, or holds more than weights"),
        ([1, 2], "relu", DataError, r"a\.pt holds no state dictionary"),
        ({}, "relu", DataError, r"a\.pt holds no state dictionary"),
        (made(0).state_dict(), "4-7relu-3", ValueError, r"0\.weight of .*a\.pt has the shape \(6, 4\), in .* \(7, 4\)"),
        (made(0).state_dict(), "4-3", ValueError, r"a\.pt has 4 tensors, the architecture has 2"),
        (made(0).double().state_dict(), "relu", ValueError, r"0\.weight of .*a\.pt is of type torch\.float64"),
        (made(0).state_dict(), "4-6relo-3", ValueError, r"no activation function 'relo' \(did you mean 'relu'\?\)"),
        (made(0).state_dict(), "four", ValueError, "architecture must be widths and activation functions"),
        (made(0).state_dict(), "4-0relu-3", ValueError, "architecture must have widths of 1 to 65536"),
        (made(0).state_dict(), "4-9999999relu-3", ValueError, "architecture must have widths of 1 to 65536"),
        (made(0).state_dict(), "4-60000relu-60000-3", ValueError, r"has 4 tensors, the architecture has 6"),
        (made(0).state_dict(), "4\u00b2-3", ValueError, "architecture must be widths and activation functions"),
        (made(0).to("meta").state_dict(), "relu", ValueError, r"0\.weight of .*a\.pt has numbers that are not there"),
        (
            {name: each.to_sparse() for name, each in made(0).state_dict().items()},
            "relu",
            ValueError,
            r"0\.weight of .*a\.pt has numbers that are not there, or not all",
        ),
        (
            {"b.weight": torch.zeros(3, 6), "a.weight": torch.zeros(6, 4)},
            "relu",
            ValueError,
            r"a\.pt: linear layer '2' has 4 inputs, but 3 come before it",
        ),
        (made(0).state_dict(), "4", ValueError, "architecture must be widths and activation functions"),
        ({"w": torch.zeros(3)}, "relu", ValueError, r"a\.pt has no linear layer"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, table: Table, content: object, architecture: str, kind: type[Exception], message: str
) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(kind, match=message):
        import_folder(tmp_path / "zoo.h5", tmp_path, architecture, table)


def test_no_file_is_left_out_in_silence(tmp_path: Path, table: Table) -> None:
    """Suffixes in capitals count, and a link to nothing is a file that cannot be read."""
    folder = tmp_path / "nets"
    folder.mkdir()
    torch.save(made(0).state_dict(), folder / "a.PT")
    save_file(made(1).state_dict(), folder / "b.SafeTensors")
    (folder / "c.pt").mkdir()
    assert len(read_zoo(import_folder(tmp_path / "a.h5", folder, "relu", table)).population) == 2
    (folder / "d.pt").symlink_to("nowhere")
    with pytest.raises((ValueError, DataError), match=r"d\.pt"):
        import_folder(tmp_path / "b.h5", folder, "relu", table)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_network_with_a_number_that_is_not_finite_is_dead(tmp_path: Path, table: Table, value: float) -> None:
    """Also one whose outputs are finite: behind a ReLU, minus infinity is 0."""
    networks = [made(0), made(1)]
    with torch.no_grad():
        networks[1][0].bias[2] = value
    zoo = read_zoo(import_networks(tmp_path / "a.h5", networks, table))
    assert zoo.models["constant"].tolist() == [False, True]


def test_the_file_to_write_is_checked_before_files_are_read(tmp_path: Path, table: Table) -> None:
    with pytest.raises(ValueError, match="is no file: give another name"):
        import_folder(tmp_path, tmp_path / "none", "relu", table, overwrite=True)
    (tmp_path / "a.h5").write_bytes(b"old")
    with pytest.raises(ValueError, match="exists: give another name, or --overwrite"):
        import_folder(tmp_path / "a.h5", tmp_path / "none", "relu", table)


def test_a_folder_without_networks_is_refused(tmp_path: Path, table: Table) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        import_folder(tmp_path / "zoo.h5", tmp_path / "none", "relu", table)
    with pytest.raises(ValueError, match=r"has no state dictionaries: no file ends in \.pt"):
        import_folder(tmp_path / "zoo.h5", tmp_path, "relu", table)
    (tmp_path / "a.safetensors").write_bytes(b"text")
    with pytest.raises(DataError, match=r"a\.safetensors is damaged or no safetensors file"):
        import_folder(tmp_path / "zoo.h5", tmp_path, "relu", table)
