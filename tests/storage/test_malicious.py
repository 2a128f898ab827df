"""Malicious files, 100 of each kind: no code runs and no other file is touched."""

import contextlib
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml

from benchmarks.damage import predictions_of, table_of, tasks_of, weights_of
from datamodules.prior.dump.prior_dump import PriorDump
from tabattn import convert
from tabattn.contract.errors import DataError
from tabattn.prior.estimator import TabularClassifier
from tabattn.prior.weights import described, write
from tabattn.storage.checkpoint_files import read
from tabattn.tasks import PriorClassification
from tabattn.training.cli import main
from tests.prior.estimator.tiny import tiny_network

Random = np.random.Generator
COUNT = 100
MANY = pytest.mark.parametrize("count", [10, pytest.param(COUNT, marks=pytest.mark.slow)])
"""For readers that take about a second a file."""

PATHS = (
    *("subprocess.getoutput", "os.system", "posix.system", "builtins.exec", "builtins.eval", "torch.os.system"),
    *("torch.hub.load", "torch.utils.cpp_extension.load", "somebody.Theirs", "pickle.loads"),
    *("tabattn.training.cli.main",),
    *("torch.distributed.launcher.api.elastic_launch", "lightning.pytorch.cli.instantiate_class", "..os.system"),
    *("functools.partial", "torch._C._jit_init", "os", "", "a" * 10_000, "os.system\x00", "http://127.0.0.1:9/a.yaml"),
)


class Payload:
    """What runs a command when it is unpickled.

    Args:
        function: What is called.
        arguments: With what.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder to open files in. Beside it are a file to steal and a package that tells when it is imported."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "thesis.txt").write_text("years of work")
    (tmp_path / "somebody.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Theirs: pass\n")
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("TABATTN_ALLOW")
    return tmp_path / "inside"


def check(trap: Path) -> None:
    """Check that nothing has run and that nothing outside was touched."""
    around = {str(path.relative_to(trap.parent)) for path in trap.parent.rglob("*") if trap not in path.parents}
    assert {name for name in around if "__pycache__" not in name} == {
        *("inside", "outside", "outside/thesis.txt", "somebody.py")
    }
    assert (trap.parent / "outside" / "thesis.txt").read_text() == "years of work"


def opened(call: Callable[[], Any]) -> None:
    """Open a file; what is wrong with it must be said."""
    with contextlib.suppress(ValueError, DataError, OSError):
        call()


def payload(random: Random, ran: Path) -> Payload:
    """A pickled object that leaves a trace."""
    import os
    import subprocess

    command = f"touch {ran}"
    return [
        Payload(os.system, command),
        Payload(subprocess.getoutput, command),
        Payload(eval, f"__import__('pathlib').Path({str(ran)!r}).touch()"),
        Payload(exec, f"import pathlib; pathlib.Path({str(ran)!r}).touch()"),
        Payload(os.remove, str(ran.parent / "outside" / "thesis.txt")),
        Payload(torch.hub.load, "nobody/nothing", "x"),
    ][random.integers(6)]


def spec(random: Random, ran: Path) -> Any:
    """A class path in one of its forms, with arguments that leave a trace."""
    path = PATHS[random.integers(len(PATHS))]
    command = f"touch {ran}"
    arguments = {
        **{"subprocess.getoutput": {"cmd": command}, "builtins.exec": {"source": f"open({str(ran)!r}, 'w')"}}.get(
            path, {"command": command}
        )
    }
    nested = {"class_path": "tabattn.attention.Softmax", "init_args": {"dropout": {"class_path": path}}}
    forms: list[Any] = [
        {"class_path": path, "init_args": arguments},
        {"class_path": path, "dict_kwargs": arguments},
        {"class_path": path},
        path,
        [{"class_path": path, "init_args": arguments}],
        {"class_path": {"class_path": path}},
        {
            "class_path": "tabattn.attention.Local",
            "init_args": {"window": {"class_path": path, "init_args": arguments}},
        },
        nested,
        {"_class_path": path, "_instantiator": path, **arguments},
    ]
    return forms[random.integers(len(forms))]


def header(random: Random, ran: Path, whole: dict[str, Any]) -> dict[str, Any]:
    """The header of a file of ours with something that is not ours."""
    described = dict(whole["network"])
    network = described["init_args"] = dict(described["init_args"])
    choice = random.integers(4)
    if choice < 2:
        network[("attention", "feature_attention", "target_attention")[random.integers(3)]] = spec(random, ran)
    elif choice == 2:
        network[("layers", "dim", "hidden", "classes", "heads", "thinking_rows")[random.integers(6)]] = int(
            10 ** random.integers(7, 18)
        )
    else:
        described["class_path"] = spec(random, ran)
    return whole | {"network": described}


def tensors_file(random: Random, whole: bytes, ran: Path) -> bytes:
    """A safetensors file whose own header lies, or whose description does."""
    length = struct.unpack("<Q", whole[:8])[0]
    head = json.loads(whole[8 : 8 + length])
    head["__metadata__"].pop("sha256", None)
    choice = random.integers(5)
    if choice < 3:
        ours = json.loads(head["__metadata__"]["header"])
        head["__metadata__"]["header"] = json.dumps(header(random, ran, ours))
    elif choice == 3:
        name = [name for name in head if name != "__metadata__"][random.integers(len(head) - 1)]
        head[name]["shape"] = [int(10 ** random.integers(1, 18))] * int(random.integers(1, 5))
    else:
        names = ("../../outside/thesis.txt", "/etc/passwd", "network." + "x" * 1000)
        head[names[random.integers(3)]] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps(head).encode()
    declared = len(text) if random.integers(8) else int(2 ** random.integers(20, 63))
    return struct.pack("<Q", declared) + text + whole[8 + length :]


def checkpoint_file(random: Random, path: Path, good: dict[str, Any], ran: Path) -> None:
    """A checkpoint that holds a payload, names code or other files, or lies about its size."""
    content = dict(good)
    choice = int(random.integers(7))
    if choice == 0:
        content[("state_dict", "hyper_parameters", "callbacks", "epoch")[random.integers(4)]] = payload(random, ran)
    elif choice in (1, 2):
        name = ("attention", "target_attention", "dim", "_class_path", "_instantiator", "network")[random.integers(6)]
        content["hyper_parameters"] = good["hyper_parameters"] | {name: spec(random, ran)}
    elif choice == 3:
        content["datamodule_hyper_parameters"] = {"sources": spec(random, ran)}
        content["hyper_parameters"] = good["hyper_parameters"] | {"layers": int(10 ** random.integers(6, 15))}
    elif choice == 4:
        size = int(10 ** random.integers(8, 12))
        content["state_dict"] = {name: torch.zeros(1).expand(size) for name in good["state_dict"]}
    if choice == 5:
        path.write_bytes(pickle.dumps(payload(random, ran), protocol=int(random.integers(6))))
        return
    torch.save(content, path)
    if choice == 6:
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../outside/thesis.txt", "stolen")
            archive.writestr("archive/bomb", bytes(10**6))


@pytest.mark.parametrize("kind", ["weights", "estimator"])
def test_weights_and_estimators(trap: Path, kind: str) -> None:
    random = np.random.default_rng(0)
    path = trap / "whole.safetensors"
    if kind == "weights":
        tensors, arguments = described(tiny_network())
        write(path, tensors, {"network": arguments})
    else:
        x, y = random.normal(size=(12, 2)), np.arange(12) % 2
        TabularClassifier(tiny_network(), n_estimators=1, device="cpu").fit(x, y).save(path)
    whole = path.read_bytes()
    for number in range(COUNT):
        bad = trap / f"{number}.safetensors"
        bad.write_bytes(tensors_file(random, whole, trap.parent / "ran"))
        opened(lambda bad=bad: (weights_of if kind == "weights" else predictions_of)(bad))  # type: ignore[misc]
    check(trap)


@MANY
def test_checkpoints(trap: Path, count: int) -> None:
    random = np.random.default_rng(1)
    tensors, network = described(tiny_network())
    attentions = {name: network["init_args"].pop(name) for name in ("attention", "feature_attention")}
    for name in ("target_attention", "cell_attention"):
        network["init_args"].pop(name)
    known = {"network": network, **attentions, "_class_path": "tabattn.tasks.PriorClassification"}
    good = {"state_dict": tensors, "hyper_parameters": known, "global_step": 3, "epoch": 1}
    for number in range(count):
        bad = trap / f"{number}.ckpt"
        checkpoint_file(random, bad, {**good, "pytorch-lightning_version": "2.6.6"}, trap.parent / "ran")
        opened(lambda bad=bad: read(bad))  # type: ignore[misc]
        opened(lambda bad=bad: weights_of(bad))  # type: ignore[misc]
        opened(lambda bad=bad: PriorClassification.load_from_checkpoint(bad))  # type: ignore[misc]
        opened(lambda bad=bad: convert.read(bad))  # type: ignore[misc]
    check(trap)


@MANY
def test_dumps(trap: Path, count: int) -> None:
    random = np.random.default_rng(2)
    secret = trap.parent / "outside" / "thesis.txt"
    for number in range(count):
        bad = trap / f"{number}.h5"
        with h5py.File(bad, "w") as file:
            shapes = {
                "X": (4, 6, 2),
                "y": (4, 6),
                "num_features": (4,),
                "num_datapoints": (4,),
                "single_eval_pos": (4,),
            }
            for name, shape in shapes.items():
                file[name] = random.integers(0, 2, size=shape)
            file.attrs["classes"] = pickle.dumps(payload(random, trap.parent / "ran")).hex()
            file["max_num_classes"] = np.array([int(10 ** random.integers(0, 18))])
            name = list(shapes)[random.integers(len(shapes))]
            choice = random.integers(6)
            if choice < 5:
                del file[name]
            if choice == 0:
                file[name] = h5py.ExternalLink(str(secret), "/")
            elif choice == 1:
                file[name] = h5py.SoftLink(f"/{name}")
            elif choice == 2:
                file.create_dataset(name, (10**6, 10**4, 10**3), chunks=(1, 100, 100), dtype="f4")
            elif choice == 3:
                file.create_dataset(name, (4, 6), dtype="f4", external=[(str(secret), 0, 96)])
            elif choice == 4:
                file.create_dataset(name, data=[pickle.dumps(payload(random, trap.parent / "ran")).hex()] * 4)
        opened(lambda bad=bad: tasks_of(bad))  # type: ignore[misc]
        opened(lambda bad=bad: PriorDump(str(bad)).setup("fit"))  # type: ignore[misc]
    check(trap)


def test_tables(trap: Path) -> None:
    random = np.random.default_rng(3)
    for number in range(COUNT):
        ending = ("csv", "tsv", "csv.gz", "arff", "parquet", "pkl", "h5")[random.integers(7)]
        bad = trap / f"{number}.{ending}"
        ran = trap.parent / "ran"
        cells = [f"=cmd|' /C touch {ran}'!A0", f"@SUM(1+1)*cmd|'touch {ran}'!A0", "../../outside/thesis.txt"]
        texts = [
            pickle.dumps(payload(random, ran)),
            f"a,label\n{cells[random.integers(3)]},x\n1,y\n".encode(),
            b"a,label\n" + b"9" * 5000 + b",x\n1,y\n",
            b"PAR1" + random.bytes(200) + struct.pack("<I", 2**31 - 1) + b"PAR1",
            b"\x1f\x8b" + random.bytes(60),
            f"@relation r\n@attribute a {{__import__('os').system('touch {ran}')}}\n@data\n1\n".encode(),
            f'@relation r\n@attribute a date "{"%s" * 50}"\n@attribute label {{x}}\n@data\n1,x\n'.encode(),
            b"\x89HDF\r\n\x1a\n" + random.bytes(100),
        ]
        bad.write_bytes(texts[random.integers(len(texts))])
        opened(lambda bad=bad: table_of(bad))  # type: ignore[misc]
    check(trap)


@MANY
def test_configurations(trap: Path, capsys: pytest.CaptureFixture[str], count: int) -> None:
    random = np.random.default_rng(4)
    ran = trap.parent / "ran"
    places = (
        *(("model",), ("model", "init_args", "attention"), ("model", "init_args", "dim"), ("data",), ("optimizer",)),
        *(("lr_scheduler",), ("trainer", "callbacks"), ("trainer", "logger"), ("trainer", "strategy"), ("allow",)),
        *(("trainer", "plugins"), ("trainer", "profiler"), ("checkpoint", "dirpath"), ("run", "root"), ("config",)),
        ("model", "init_args", "init_from"),
    )
    for number in range(count):
        content: dict[str, Any] = {"model": {"class_path": "PriorClassification"}, "data": "SyntheticPrior"}
        *above, last = places[random.integers(len(places))]
        inner = content
        for word in above:
            inner = inner.setdefault(word, {})
        inner[last] = spec(random, ran)
        callback = {"class_path": "LambdaCallback", "init_args": {"on_fit_start": spec(random, ran)}}
        content.setdefault("trainer", {}).setdefault("callbacks", [callback])
        text = yaml.safe_dump(content)
        if random.integers(5) == 0:
            text = f"model: !!python/object/apply:os.system ['touch {ran}']\n"
        (trap / f"{number}.yaml").write_text(text)
        with pytest.raises(SystemExit) as leaving:
            main(["fit", f"--config={number}.yaml", "--trainer.fast_dev_run=true"])
        assert leaving.value.code == 2
        assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]) == 1
    check(trap)


def test_the_trap_works(trap: Path) -> None:
    """A loader that trusts its file is caught."""
    for seed in range(4):
        with contextlib.suppress(Exception):
            pickle.loads(pickle.dumps(payload(np.random.default_rng(seed), trap.parent / "ran")))
    with pytest.raises(AssertionError):
        check(trap)
