"""Entrants of ``benchmarks.npt_original``: networks of this project, and the original from its checkout."""

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import MagicMock, patch

import numpy
import sklearn.datasets
import yaml
from sklearn.preprocessing import OneHotEncoder
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from datamodules import TableCells
from datamodules.reconstruction.batches import TrainingBatches
from datamodules.reconstruction.options import ContextOptions, MaskOptions, SplitOptions
from tabattn.attention import Softmax
from tabattn.optim import FlatCosine, LookaheadLamb
from tabattn.reconstruction import NETWORKS, LegacyNPT
from tabattn.reconstruction.losses import cell_losses, group_means
from tabattn.reconstruction.options import LossOptions
from tabattn.storage.trusted import resolve

TABLE = "sklearn:breast_cancer"
CONFIG = Path(__file__).parents[1] / "configs" / "reconstruction.yaml"
MADE = {"split": SplitOptions, "masks": MaskOptions, "context": ContextOptions}
"""Classes of the options of a table."""
STEPS = 2000
"""Length of the schedules of the original and of ``LegacyNPT``."""
SCHEDULE = {"class_path": "tabattn.optim.WarmupCosine"}
"""Schedule of a configuration that names none."""
ABSENT = (
    "wandb",
    "fairseq",
    "fairseq.optim",
    "fairseq.optim.lr_scheduler",
    "fairseq.optim.fairseq_optimizer",
    "dotmap",
    "transformers",
    "patoolib",
    "wget",
    "seaborn",
    "torchvision",
    "torchvision.transforms",
)
"""Packages that the original imports at its start, and needs in no step."""
NAMES = {"fc_q": "query", "fc_k": "key", "fc_v": "value", "fc_mix_heads": "out", "fc_res": "residual"}
NAMES |= {"ln0": "norm", "ln1": "mlp_norm", "rff": "mlp"}


class Entrant(Protocol):
    """Network in training."""

    network: nn.Module

    def step(self) -> None:
        """Take one training step, from the masks of its cells to the learning rate of the next."""


class Ours:
    """Network of this project in training on a table, as ``TableReconstruction`` trains it.

    Args:
        network: Makes it from the columns.
        optimizer: Makes the optimizer from the parameters.
        schedule: Makes the schedule from the optimizer; None = a constant learning rate.
        data: The table.
        loss: Options of the loss.
        clip: Clips the gradients of parameters.
        steps: Length of the training, over which the weight of the features changes.
        decay: Decay of the moving average of the weights; None = there is none.
    """

    def __init__(
        self,
        network: Callable[..., nn.Module],
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., LRScheduler] | None,
        data: TableCells,
        loss: LossOptions,
        clip: Callable[[Any], object],
        steps: int = STEPS,
        decay: float | None = None,
    ) -> None:
        self.network: Any = network(data.columns).train()
        self.optimizer = optimizer(self.network.parameters())
        self.schedule = None if schedule is None else schedule(self.optimizer)
        self.batches = TrainingBatches(data.prepared.cells)
        self.loss, self.clip, self.steps, self.done = loss, clip, steps, 0
        self.average: AveragedModel | None = None
        if decay is not None:
            self.average = AveragedModel(self.network, avg_fn=get_ema_avg_fn(decay), use_buffers=True)

    def step(self) -> None:
        """Take one training step; the first one prepares the network before."""
        batch = self.batches[self.done]
        if not self.done:
            self.network.begin(batch.truth[0])
        found = self.network(batch.x, batch.hidden, batch.context)
        losses = cell_losses(found, batch.truth, self.network.kinds, self.loss.density)
        features, targets = group_means(losses, batch.scored, self.batches.cells.targets)
        weight = self.loss.weight(self.done, self.steps)
        self.optimizer.zero_grad()
        (weight * features + (1 - weight) * targets).backward()
        self.clip(self.network.parameters())
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.done += 1


def legacy(dim: int) -> Entrant:
    """Return LegacyNPT at the configuration of the original: all rows in each step, and every label hidden."""
    attention = partial(Softmax, dropout=0.1)
    return Ours(
        partial(LegacyNPT, attention=attention, attribute_attention=attention, dim=dim),
        partial(LookaheadLamb, lr=5e-4),
        partial(FlatCosine, total_steps=STEPS, flat=0.5),
        TableCells(TABLE, masks=MaskOptions(targets=1.0), context=ContextOptions(transductive=True)),
        LossOptions(tradeoff=1.0, density=0.0),
        partial(nn.utils.clip_grad_value_, clip_value=1.0),
    )


def default() -> Entrant:
    """Return the network and training of ``configs/reconstruction.yaml``."""
    return configured(yaml.safe_load(CONFIG.read_text()))


def configured(chosen: dict[str, Any]) -> "Ours":
    """Return the network and training of a configuration of reconstruction, with the schedule of the command line."""
    model, data, optimizer = (chosen[part]["init_args"] for part in ("model", "data", "optimizer"))
    data = dict(data)
    options = {name: MADE[name](**data.pop(name)) for name in MADE if name in data}
    network, trainer = model["network"], chosen["trainer"]
    named = chosen.get("lr_scheduler", SCHEDULE)
    schedule = named and partial(
        resolve(named["class_path"], LRScheduler), **{"total_steps": trainer["max_steps"], **named.get("init_args", {})}
    )
    decays = [
        callback["init_args"]["decay"]
        for callback in trainer.get("callbacks", [])
        if callback["class_path"] == "EMAWeightAveraging"
    ]
    return Ours(
        partial(NETWORKS[network["class_path"]], **network["init_args"]),
        partial(resolve(chosen["optimizer"]["class_path"], Optimizer), **optimizer),
        schedule,
        TableCells(**data, **options),
        LossOptions(**model.get("loss", {})),
        partial(nn.utils.clip_grad_norm_, max_norm=trainer["gradient_clip_val"]),
        trainer["max_steps"],
        *decays,
    )


class Original:
    """The original in training: a whole epoch of its trainer, which is one step on all rows.

    Args:
        folder: Checkout of non-parametric-transformers.
        dim: Width of a cell's token.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        with original(folder) as settings, tempfile.TemporaryDirectory() as data:
            from npt.column_encoding_dataset import ColumnEncodingDataset
            from npt.train import Trainer
            from npt.utils.model_init_utils import init_model_opt_scaler_from_dataset

            chosen = settings(Path(data), dim)
            dataset = ColumnEncodingDataset(chosen)
            dataset.load_next_cv_split()
            self.network, optimizer, scaler = init_model_opt_scaler_from_dataset(dataset, chosen, "cpu")
            self.trainer = Trainer(
                model=self.network,
                optimizer=optimizer,
                scaler=scaler,
                c=chosen,
                wandb_run=MagicMock(),
                cv_index=0,
                dataset=dataset,
            )
        self.done = 0

    def step(self) -> None:
        """Take one training step."""
        self.done += 1
        self.trainer.run_epoch("train", self.done)


class Settings(dict[str, Any]):
    """Settings of the original by attribute; None where there is none, as its parts expect."""

    __getattr__ = dict.get
    __setattr__ = dict.__setitem__


@contextlib.contextmanager
def original(folder: Path) -> Iterator[Callable[[Path, int], Settings]]:
    """Context in which the original can be imported, silently, with present versions of what it imports.

    Yields:
        Makes its settings for the breast cancer table from a folder, into which the table is written, and the width.
    """
    before = dict(sys.modules)
    sys.path.insert(0, str(folder))
    sys.modules |= {name: MagicMock() for name in ABSENT}
    sklearn.datasets.load_boston = None
    try:
        with contextlib.redirect_stdout(io.StringIO()), patch.object(numpy, "object", object, create=True):
            from npt.configs import build_parser
            from npt.utils import encode_utils

            encode_utils.OneHotEncoder = lambda sparse: OneHotEncoder(sparse_output=sparse)

            def settings(data: Path, dim: int) -> Settings:
                _write_table(data / "breast-cancer" / "wdbc.data")
                chosen = Settings(vars(build_parser().parse_args([])))
                chosen |= {"data_set": "breast-cancer", "data_path": str(data), "exp_device": "cpu", "cv_index": 0}
                chosen |= {"exp_n_runs": 1, "exp_test_perc": 0.1, "exp_val_perc": 0.2, "exp_lr": 5e-4}
                chosen |= {"exp_num_total_steps": STEPS, "exp_optimizer_warmup_proportion": 0.5, "exp_tradeoff": 1}
                chosen |= {"exp_batch_size": -1, "model_dim_hidden": dim}
                return chosen

            yield settings
    finally:
        sys.path.remove(str(folder))
        del sklearn.datasets.load_boston
        for name in ABSENT:
            del sys.modules[name]
            sys.modules |= {name: before[name]} if name in before else {}


def _write_table(path: Path) -> None:
    """Write the table of scikit-learn in the format of the original's file."""
    features, labels = sklearn.datasets.load_breast_cancer(return_X_y=True)
    lines = [
        ",".join([str(row), "MB"[label], *(repr(float(value)) for value in values)])
        for row, (values, label) in enumerate(zip(features, labels, strict=True))
    ]
    path.parent.mkdir()
    path.write_text("\n".join(lines) + "\n")


def translated(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the original under the names of ``LegacyNPT``."""
    found = {}
    for name, weight in weights.items():
        first, *rest = name.split(".")
        if first == "enc":
            layer, _, part, *tail = rest
            block, features = divmod(int(layer) // 2, 2)
            found[".".join(["blocks", str(block), "features" if features else "rows", NAMES[part], *tail])] = weight
            continue
        home = {
            "in_embedding": "embedding.columns",
            "feature_type_embedding": "embedding.kind",
            "feature_index_embedding": "embedding.column",
            "out_embedding": "head.columns",
        }[first]
        found[".".join([home, *rest])] = weight
    return found
