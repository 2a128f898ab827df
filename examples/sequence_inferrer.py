"""Inference of sequences of a table of one's own, as a scikit-learn estimator, cell by cell."""

# %% [markdown]
# # A column inferred from another one and from its own past
#
# `SequenceInferrer` trains a transformer neural process on windows of a table, and predicts a density for each missing
# value. Run it as a program, `python -m examples.sequence_inferrer`, or cell by cell.

# %%
import numpy as np

from examples.rooms import rooms
from tabattn import SequenceInferrer
from tabattn.attention import capture
from tabattn.pairs.estimator import WindowOptions

STEPS = 200

# %% [markdown]
# ## Data
# Hourly temperatures outside and inside of a room. The last 300 hours are kept for the test.

# %%
frame = rooms()
train, test = frame[:-300], frame[-300:]
layout = WindowOptions(x="time", unit="h", length=48, stride=24, cycle=24)
print(f"{len(train)} hours to learn from, {int(train['inside'].isna().sum())} of them without a value inside")

# %% [markdown]
# ## Train
# On windows of two days; the last fifth of the rows says when to stop.

# %%
model = SequenceInferrer(layout, infer="inside", context=12, max_steps=STEPS, random_state=0)
model.fit(train)
print(f"log-likelihood of validation: {model.validation_scores_[-1]:.2f}")

# %% [markdown]
# ## Score
# Mean log-likelihood of a temperature inside, in nats, given that outside and the first 12 hours inside.

# %%
print(f"log-likelihood of the test: {model.score(test):.2f}")

# %% [markdown]
# ## Predict
# What is NaN is inferred: the means, an interval of 90 %, and trajectories.

# %%
asked = test[:48].copy()
asked.loc[asked.index[12:], "inside"] = np.nan
table = model.infer_table(asked, samples=2, random_state=0)
print(table[["x", "mean", "quantile_0.05", "quantile_0.95", "sample_0"]].head(3).to_string(index=False))

# %% [markdown]
# A network that was trained on synthetic curves alone needs no training, if it may be told how fast values change.

# %%
zero = SequenceInferrer.from_pretrained("const", layout, unit=6.0)
truth = test["inside"][12:48].to_numpy()
for name, means in (("trained here", model.predict(asked)), ("pretrained", zero.predict(asked))):
    print(f"{name}: root mean squared error {np.sqrt(np.nanmean((means - truth) ** 2)):.2f} degrees")

# %% [markdown]
# ## Look at attention
# Which observations the first target attends to, in each layer.

# %%
with capture(model.network_) as maps:
    model.predict(asked)
for site, records in maps.items():
    weights = records[-1].weights
    assert weights is not None
    print(f"{site}: map {tuple(weights.shape)}")
