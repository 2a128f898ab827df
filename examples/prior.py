"""In-context classification of tables, from training to a look at attention, cell by cell."""

# %% [markdown]
# # In-context classification of tables
#
# A network reads the rows of a table whose labels are known and classifies the others, in one forward pass. It is
# trained on synthetic tables alone; here for some seconds, so that it only begins to learn. Run it as a program,
# `python -m examples.prior`, or cell by cell in an editor that knows percent cells.

# %%
from functools import partial

import torch
from lightning import Trainer, seed_everything
from torch.optim import AdamW

from datamodules import SyntheticPrior
from tabattn.attention import capture
from tabattn.prior.network import PriorNetwork
from tabattn.tasks import PriorClassification

STEPS = 60
seed_everything(0, verbose=False)

# %% [markdown]
# ## Data
# Each training table comes from another random process; validation is on real tables, which training never uses.

# %%
data = SyntheticPrior(batch_size=8, rows=(30, 60), features=(2, 6), tables=("sklearn:iris", "sklearn:wine"))
batch = next(iter(data.train_dataloader()))
print(f"{len(batch.x)} tables of {batch.x.shape[1]} rows and {batch.x.shape[2]} columns, {batch.context} rows labelled")

# %% [markdown]
# ## Train
# The task brings the optimizer and the schedule of `configs/prior.yaml`; `use_optimizer` chooses others.

# %%
task = PriorClassification(partial(PriorNetwork, dim=32, heads=2, hidden=64, layers=2), attention="Softmax")
task.use_optimizer(partial(AdamW, lr=3e-3))
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = Trainer(max_steps=STEPS, gradient_clip_val=1.0, accelerator="cpu", num_sanity_val_steps=0, **quiet)
trainer.fit(task, data)

# %% [markdown]
# ## Score
# On folds of the real tables. *Reliance* is the loss of ROC AUC if the labels of the context are permuted.

# %%
(scores,) = trainer.test(task, data, verbose=False)
for name in ("test/iris/auroc", "test/wine/auroc", "test/reliance"):
    print(f"{name}: {scores[name]:.3f}")

# %% [markdown]
# ## Look at attention
# Every call of every mechanism, as `(batch, heads, queries, keys)`.

# %%
real = next(iter(data.test_dataloader()))
task.eval()
with torch.no_grad(), capture(task) as maps:
    task(real)
for site, records in maps.items():
    weights = records[0].weights
    assert weights is not None
    entropy = -(weights * weights.clamp(min=1e-12).log()).sum(-1).mean()
    print(f"{site}: map {tuple(weights.shape)}, entropy {entropy:.2f} nats")

# %% [markdown]
# ## Predict
# Class probabilities of the target rows of every fold.

# %%
predictions = trainer.predict(task, data)
assert predictions is not None
probabilities = predictions[0]
print(f"the first of {len(predictions)} folds: probabilities {tuple(probabilities.shape)}")
print(probabilities[0, :3, :3])
