"""Settings at which a mechanism must be Softmax."""

import pytest
import torch

from tabattn.attention import Entmax, Local, Nystrom, Scratch, Softmax, Sparse, TopK
from tests.attention.cases import HEAD_DIM, HEADS, gradients, inputs, key_mask, leaves

close = torch.testing.assert_close


EQUAL_TO_SOFTMAX = {
    "Scratch": Scratch(HEADS, HEAD_DIM),
    "Sparse, window 2 x length": Sparse(HEADS, HEAD_DIM, window=22),
    "Local, window length": Local(HEADS, HEAD_DIM, window=11),
    "Nystrom, landmark for each token": Nystrom(HEADS, HEAD_DIM, landmarks=11, iterations=40),
    "TopK, keep all": TopK(HEADS, HEAD_DIM, keep=11),
    "Entmax, alpha 1": Entmax(HEADS, HEAD_DIM, alpha=1.0),
    "Entmax, alpha near 1": Entmax(HEADS, HEAD_DIM, alpha=1 + 1e-7),
}


@pytest.mark.parametrize("setting", EQUAL_TO_SOFTMAX)
@pytest.mark.parametrize("masked", [False, True])
def test_degenerate_setting_equals_softmax(setting, masked):
    mechanism = EQUAL_TO_SOFTMAX[setting]
    x = leaves(inputs("Softmax", queries=11, dtype=torch.float64))
    mask = key_mask() if masked else None
    got, want = mechanism(*x, mask), Softmax(HEADS, HEAD_DIM)(*x, mask)
    close(got, want, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(gradients(got, *x), gradients(want, *x), strict=True):
        close(ours, theirs, atol=1e-4, rtol=1e-4)
