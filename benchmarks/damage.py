"""Robustness against damaged files: ``python -m benchmarks.damage``.

Files of every kind are damaged at random (seeded): flipped bits, a truncated end, an overwritten block, or two swapped
blocks. Each is read in a separate process with a time limit, by the function that users call. The outcome is one of:

- refused: a ``ValueError`` or ``DataError`` of one line;
- same: the content read equals that of the undamaged file;
- different: other content was read. A fault, except in CSV and Parquet tables, which have no checksum;
- traceback, crash, hang: faults.
"""

import argparse
import hashlib
import multiprocessing
import pickle
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.reports import check_least
from datamodules import SyntheticPairs
from datamodules.pairs import CacheOptions, SyntheticEvaluation
from datamodules.prior.dump.read import Dump
from datamodules.prior.dump.write import DumpPlan, write_dump
from datamodules.prior.scm_options import DEFAULT_OPTIONS
from datamodules.prior.synthetic import ScmBatches, TableSizes
from datamodules.tables.files import read_file
from tabattn import TabularClassifier
from tabattn.contract.errors import DataError
from tabattn.prior.network import PriorNetwork
from tabattn.prior.weights import described, load_network, write
from tabattn.storage.files import write_checkpoint
from tabattn.tasks import PriorClassification

TIME_LIMIT = 90.0
"""Seconds after which a reader counts as hanging."""

UNKNOWABLE = {"table.csv", "table.parquet"}
"""Kinds of files without a checksum, in which changed content cannot be detected."""

SIZES: dict[str, Any] = {"dim": 16, "heads": 2, "hidden": 16, "layers": 2, "classes": 4}
PAIRS: dict[str, Any] = {"kind": "icm", "points": (7, 7), "context": 3, "batch_size": 3, "steps_per_epoch": 5}
FEW = SyntheticEvaluation(val_batches=3, test_batches=3)


def digest(value: Any) -> str:
    """Digest of tensors and plain values."""
    return hashlib.sha256(pickle.dumps(value)).hexdigest()


def weights_of(path: Path) -> str:
    """Weights in a weight file."""
    return digest([(name, value.numpy().tobytes()) for name, value in load_network(path).state_dict().items()])


def predictions_of(path: Path) -> str:
    """Predictions of a saved estimator."""
    estimator = TabularClassifier.load(path, device="cpu")
    x = np.linspace(-2, 2, 5 * estimator.n_features_in_).reshape(5, -1)
    return digest((estimator.predict_proba(x).tobytes(), estimator.predict(x).tolist()))


def tasks_of(path: Path) -> str:
    """Tasks in a dump."""
    dump = Dump(path)
    batches = [dump.read(np.asarray([task])) for task in range(len(dump))]
    return digest([(batch.x.numpy().tobytes(), batch.y.numpy().tobytes(), batch.context) for batch in batches])


def pairs_of(path: Path) -> str:
    """Batches in a cache."""
    data = SyntheticPairs(**PAIRS, evaluation=FEW, cache=CacheOptions(str(path)))
    batches = [*data.val_dataloader(), *data.test_dataloader()]
    return digest([(batch.x.numpy().tobytes(), batch.y.numpy().tobytes(), batch.context) for batch in batches])


def table_of(path: Path) -> str:
    """Cells and labels of a table."""
    return digest(read_file(path).to_csv())


def make(folder: Path) -> dict[Path, Callable[[Path], str]]:
    """Write an undamaged file of each kind; return the function that reads each."""
    torch.manual_seed(0)
    network = PriorNetwork(**SIZES)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tensors, arguments = described(network.eval())
    write(folder / "weights.safetensors", tensors, {"network": arguments})
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, 4)), np.arange(30) % 3
    TabularClassifier(network, n_estimators=2, device="cpu").fit(x, y).save(folder / "estimator.safetensors")
    task = PriorClassification(partial(PriorNetwork, **SIZES))
    task.network.load_state_dict(network.state_dict())
    state: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    task.on_save_checkpoint(state)
    state |= {"global_step": 3, "epoch": 1}
    write_checkpoint(folder / "best.ckpt", {**state, "pytorch-lightning_version": "2.6.6"})
    batches = ScmBatches(TableSizes((12, 16), (2, 4), (2, 3), (0.5, 0.5)), DEFAULT_OPTIONS, 4, 10**6, grow=0, seed=0)
    write_dump(folder / "tasks.h5", batches, DumpPlan(16, 4, 16, 4, 3, {"prior": "scm"}))
    SyntheticPairs(**PAIRS, evaluation=FEW, cache=CacheOptions(str(folder / "pairs.h5"))).prepare_data()
    frame = pd.DataFrame(x.round(3), columns=list("abcd")).assign(label=[f"class {number}" for number in y])
    frame.to_csv(folder / "table.csv", index=False)
    frame.to_csv(folder / "table.csv.gz", index=False)
    frame.to_parquet(folder / "table.parquet")
    kinds: dict[str, Callable[[Path], str]] = {
        "weights.safetensors": weights_of,
        "estimator.safetensors": predictions_of,
        "best.ckpt": weights_of,
        "tasks.h5": tasks_of,
        "pairs.h5": pairs_of,
        "table.csv": table_of,
        "table.csv.gz": table_of,
        "table.parquet": table_of,
    }
    return {folder / name: read for name, read in kinds.items()}


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    """Content of a file with damage of a random kind."""
    raw = bytearray(whole)
    size = len(raw)
    kind = random.integers(4)
    if kind == 0:
        for place in random.integers(size, size=random.integers(1, 4)):
            raw[place] ^= 1 << random.integers(8)
    elif kind == 1:
        del raw[random.integers(size) :]
    else:
        block = int(2 ** random.integers(2, 12)) % size or 1
        first, second = (int(place) for place in random.integers(max(1, size - block), size=2))
        if kind == 2:
            raw[first : first + block] = random.bytes(block)
        else:
            raw[first : first + block], raw[second : second + block] = (
                raw[second : second + block],
                raw[first : first + block],
            )
    return bytes(raw)


def outcome(read: Callable[[Path], str], path: Path, expected: str) -> str:
    """Outcome of reading a file."""
    try:
        return "same" if read(path) == expected else "different"
    except (ValueError, DataError) as ex:
        return "refused" if "\n" not in str(ex) else f"traceback: {ex!r}"
    except BaseException as ex:
        return f"traceback: {ex!r}"


def _child(read: Callable[[Path], str], path: Path, expected: str, answer: Any) -> None:
    answer.send(outcome(read, path, expected))


def in_a_process(read: Callable[[Path], str], path: Path, expected: str) -> str:
    """``outcome`` in a separate process."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(read, path, expected, send))
    process.start()
    send.close()
    try:
        return str(receive.recv()) if receive.poll(TIME_LIMIT) else "hang"
    except EOFError:
        return "crash"
    finally:
        process.kill()
        process.join()


def main(arguments: list[str] | None = None) -> int:
    """Damage and read files; print the number of each outcome."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.damage", allow_abbrev=False)
    parser.add_argument("--files", type=int, default=70, help="damaged files of each kind (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    check_least(parser, options, files=1, seed=0)
    torch.set_num_threads(1)
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        for path, read in make(Path(name)).items():
            random = np.random.default_rng([options.seed, *path.name.encode()])
            whole, expected = path.read_bytes(), read(path)
            counts: Counter[str] = Counter()
            for _ in range(options.files):
                path.write_bytes(damaged(whole, random))
                result = in_a_process(read, path, expected)
                counts[result.partition(":")[0]] += 1
                if result not in ("same", "refused") and not (result == "different" and path.name in UNKNOWABLE):
                    faults += 1
                    sys.stderr.write(f"{path.name}: {result}\n")
            sys.stdout.write(f"{path.name:24}{dict(counts)}\n")
            sys.stdout.flush()
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
