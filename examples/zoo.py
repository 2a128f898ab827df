"""Networks as data, from a zoo of trained networks to networks for a table of one's own, cell by cell."""

# %% [markdown]
# # Networks that are sampled for a table
#
# A zoo is a population of small networks, each trained on a regression task. A variational autoencoder learns to
# encode and decode them, and to sample networks for a task that it is told of. Run it as a program,
# `python -m examples.zoo`, or cell by cell.

# %%
import copy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from lightning import Trainer, seed_everything
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from datamodules import NetworkZoo
from datamodules.zoo import ZooOptions
from tabattn.attention import capture
from tabattn.contract.modules import to_module
from tabattn.tasks import NetworkVAE
from tabattn.zoo import LossOptions, NeuronTransformer, Sizes
from tabattn.zoo.own_data import TableNetwork, fine_tune
from tabattn.zoo.search import SearchOptions

NETWORKS = 1000
STEPS = 600
seed_everything(0, verbose=False)

# %% [markdown]
# ## Data
# The zoo is generated: linear tasks of 10 columns, and networks of one to three hidden layers. Some tasks are held out.

# %%
folder = TemporaryDirectory()
options = ZooOptions(networks=NETWORKS, tasks=max(NETWORKS // 4, 10), steps=max(NETWORKS // 8, 10))
data = NetworkZoo(f"{folder.name}/zoo.h5", "task", batch_size=128, zoo=options)
data.prepare_data()
print(data.told().removeprefix(f"{Path(folder.name)}/"))

# %% [markdown]
# ## Train
# `meta="rows"` tells the decoder of a task by a ridge regression on its rows and a learned encoding of them, and the
# loss of `targets` trains it to decode networks for a task from what is told of it alone.

# %%
network = partial(NeuronTransformer, latent=64, dim=64, hidden=128, layers=2, weight_layers=2, meta="rows")
task = NetworkVAE(network, sizes=Sizes(vertices=40, levels=5, width=10, inputs=10), loss=LossOptions(targets=1.0))
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = Trainer(max_steps=STEPS, gradient_clip_val=1.0, accelerator="cpu", num_sanity_val_steps=0, **quiet)
trainer.fit(task, data)

# %% [markdown]
# ## Score
# Networks of held-out tasks, encoded and decoded: whether the graph is exact, and how far the function is the same.

# %%
(scores,) = trainer.test(task, data, verbose=False)
for name in ("test/architecture_exact", "test/functional_r2", "test/cosine_similarity", "test/delta_task"):
    print(f"{name}: {scores[name]:.3f}")

# %% [markdown]
# ## Look at attention
# Which neurons the first neuron of a network attends to, in each layer of the encoder and of the decoder.

# %%
batch = next(iter(data.test_dataloader()))
task.eval()
with torch.no_grad(), capture(task) as maps:
    task(batch)
for site, records in maps.items():
    for record in records[-1:]:
        assert record.weights is not None
        top = record.weights[0, 0, 0].topk(3).indices.tolist()
        print(f"{site}: map {tuple(record.weights.shape)}, most on tokens {top}")

# %% [markdown]
# ## Predict
# Three networks for a table that is not of the zoo: sampled for its rows, then trained further on it for a few steps.
# Beside them: their architectures trained from scratch for as many steps, the best network of the nearest task of the
# zoo (by meta-features), trained further as well, and ridge regression.

# %%
x, y = load_diabetes(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0)
tune = partial(fine_tune, x=x_train, y=y_train, steps=50)


def score(found: torch.nn.Module) -> float:
    """R2 on the test rows."""
    with torch.no_grad():
        return float(r2_score(y_test, found(torch.from_numpy(x_test))))


def fresh(found: torch.nn.Module) -> torch.nn.Module:
    """The same architecture with new weights."""
    made = copy.deepcopy(found)
    for part in made.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    return made


samples = task.sample_for(x_train, y_train, 3)
table = task.table(x_train, y_train)
known = data.part("train")
distance = torch.cdist(table.meta[None], data.meta[data.models["task"][known]])[0]
nearest = known[(distance == distance.min()).numpy()]
best = nearest[np.argmax(data.models["train_r2"][nearest])]
neighbour = TableNetwork(to_module(data.population[int(best)]), table)
print("R2 on the test rows          at once   after 50 steps")
for name, networks in {
    "sampled for the table": samples,
    "from scratch": [fresh(sample) for sample in samples],
    "of the nearest task": [neighbour],
}.items():
    before, after = (np.mean([score(each) for each in group]) for group in (networks, map(tune, networks)))
    print(f"{name:28} {before:7.3f} {after:16.3f}")
print(f"{'ridge regression':28} {RidgeCV(np.logspace(-3, 3, 13)).fit(x_train, y_train).score(x_test, y_test):7.3f}")

# %% [markdown]
# ## Search
# Latents whose networks are good on the training rows, and small, beside as many random ones.

# %%
for method in ("gradient", "random"):
    found, front = task.search_for(
        x_train, y_train, method, SearchOptions(evaluations=max(STEPS // 3, 20), population=20)
    )
    print(f"{method}: R2 {found.quality.max():.3f} on the training rows, {score(front[0]):.3f} on the test rows")
folder.cleanup()
