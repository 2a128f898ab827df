"""TabularClassifier on a GPU equals that on the CPU; half precision is near."""

import pickle
from typing import Literal

import numpy as np
import pytest
import torch

from tabattn import TabularClassifier
from tests.prior.estimator.tiny import MakeTable

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_device_auto_is_the_gpu(table: MakeTable) -> None:
    x, y = table()
    expected = TabularClassifier(device="cpu").fit(x, y).predict_proba(x)
    model = TabularClassifier().fit(x, y)
    np.testing.assert_allclose(model.predict_proba(x), expected, atol=1e-4)
    assert model._reader is not None
    assert next(model._reader._network.parameters()).is_cuda
    assert not next(model.network_.parameters()).is_cuda
    again = pickle.loads(pickle.dumps(model)).set_params(device="cpu")
    np.testing.assert_allclose(again.predict_proba(x), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near(table: MakeTable, dtype: Literal["bfloat16", "float16"]) -> None:
    x, y = table()
    expected = TabularClassifier(device="cpu").fit(x, y).predict_proba(x)
    model = TabularClassifier(dtype=dtype).fit(x, y)
    half = model.predict_proba(x)
    np.testing.assert_allclose(half, expected, atol=0.05)
    assert np.abs(half - expected).max() > 1e-7
    np.testing.assert_array_equal(model.predict_proba(x), half)
