"""Reconstruction of hidden cells of one table, from training to filled cells, cell by cell."""

# %% [markdown]
# # A table whose cells predict one another
#
# The rows of a table attend to one another, and so do its columns; the network predicts labels that are hidden. Run it
# as a program, `python -m examples.reconstruction`, or cell by cell.

# %%
import numpy as np
import torch
from lightning import Trainer, seed_everything
from sklearn.datasets import load_diabetes

from datamodules import TableCells
from tabattn import TabularImputer
from tabattn.attention import capture
from tabattn.tasks import TableReconstruction

STEPS = 60
seed_everything(0, verbose=False)

# %% [markdown]
# ## Data
# One table: rows are training, validation or test rows, and the labels of the latter two are hidden.

# %%
frame = load_diabetes(as_frame=True).frame
data = TableCells(frame, "target", steps_per_epoch=20)
batch = next(iter(data.test_dataloader()))
print(f"{batch.x.shape[1]} rows of {batch.x.shape[2]} columns, the first {batch.context} of them known")

# %% [markdown]
# ## Train
# The task brings the optimizer and the schedule of `configs/reconstruction.yaml`, and builds its network for the table.

# %%
task = TableReconstruction(attention="Softmax")
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = Trainer(max_steps=STEPS, gradient_clip_val=1.0, accelerator="cpu", num_sanity_val_steps=0, **quiet)
trainer.fit(task, data)

# %% [markdown]
# ## Score
# In the units of the target: root mean squared error, CRPS, and the share of rows within the central 90 % interval.

# %%
(scores,) = trainer.test(task, data, verbose=False)
for name in ("test/rmse", "test/crps", "test/coverage_90"):
    print(f"{name}: {scores[name]:.3f}")

# %% [markdown]
# ## Look at attention
# Which training rows a test row attends to, in the last column.

# %%
task.eval()
with torch.no_grad(), capture(task) as maps:
    task(batch)
for site, records in maps.items():
    weights = records[-1].weights
    assert weights is not None
    top = weights.flatten(0, -3)[-1, -1].topk(min(3, weights.shape[-1]))
    print(f"{site}: map {tuple(weights.shape)}, most on keys {top.indices.tolist()}")

# %% [markdown]
# ## Predict
# Mean and standard deviation of each test row; and missing cells of all columns, filled by `TabularImputer`.

# %%
predictions = trainer.predict(task, data)
assert predictions is not None
table = task.prediction_table(batch, predictions[0], 0)
print(f"row {table['row'][0]}: {table['predicted target'][0]:.0f} +- {table['std target'][0]:.0f}")
gaps = frame.mask(np.random.default_rng(0).random(frame.shape) < 0.1)
filled = TabularImputer(max_steps=STEPS, random_state=0).fit_transform(gaps)
print(f"{int(gaps.isna().sum().sum())} missing cells filled, {int(filled.isna().sum().sum())} left")
