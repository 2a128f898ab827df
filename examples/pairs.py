"""Inference between two sequences, from training to trajectories, cell by cell."""

# %% [markdown]
# # The rest of a sequence from another one
#
# Two sequences follow one curve at heights of their own. All points of the first and eight of the second are context;
# the network predicts a density for each of the others. Run it as a program, `python -m examples.pairs`, or cell by
# cell.

# %%
import torch
from lightning import Trainer, seed_everything

from datamodules import SyntheticPairs
from datamodules.pairs import SyntheticEvaluation
from tabattn.attention import capture
from tabattn.pairs import InferenceOptions
from tabattn.tasks import PairInference

STEPS = 100
seed_everything(0, verbose=False)

# %% [markdown]
# ## Data
# Gaussian processes, whose exact predictive density (the oracle) is known.

# %%
data = SyntheticPairs(
    kind="const",
    points=(24, 24),
    context=8,
    regime=("forecast", "shuffle"),
    batch_size=16,
    evaluation=SyntheticEvaluation(val_batches=2, test_batches=2),
)
batch = next(iter(data.test_dataloader()))
print(f"{len(batch.x)} tasks of {batch.x.shape[1]} points, the first {batch.context} of them known")

# %% [markdown]
# ## Train
# The task brings the optimizer and the schedule of `configs/pairs.yaml`; `use_optimizer` chooses others.

# %%
task = PairInference(attention="Softmax", inference=InferenceOptions(samples=5))
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = Trainer(max_steps=STEPS, gradient_clip_val=1.0, accelerator="cpu", num_sanity_val_steps=0, **quiet)
trainer.fit(task, data)

# %% [markdown]
# ## Score
# Log-likelihood of a target in nats, that of the oracle, and the error of the first target after the context.

# %%
(scores,) = trainer.test(task, data, verbose=False)
for name in ("test/ll", "test/ll_oracle", "test/rmse_first"):
    print(f"{name}: {scores[name]:.3f}")

# %% [markdown]
# ## Look at attention
# Attention weights of a target: their sum over the points of the other sequence.

# %%
task.eval()
with torch.no_grad(), capture(task) as maps:
    task(batch)
other = (batch.member[:, : batch.context] == 0).float()
for site, records in maps.items():
    weights = records[-1].weights
    assert weights is not None
    given = other[: len(weights), None, None, :] if weights.shape[-1] == batch.context else None
    told = "" if given is None else f", {(weights * given).sum(-1).mean():.2f} of it on the first sequence"
    print(f"{site}: map {tuple(weights.shape)}{told}")

# %% [markdown]
# ## Predict
# Trajectories: each value is drawn from the predicted density, and is context for the later ones.

# %%
predictions = trainer.predict(task, data)
assert predictions is not None
drawn = predictions[0]
print(f"{drawn.samples.shape[0]} trajectories of {drawn.samples.shape[2]} targets for {drawn.samples.shape[1]} tasks")
