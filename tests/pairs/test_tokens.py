"""Laws of the tokens of observations."""

import pytest
import torch

from tabattn.pairs import TokenOptions
from tabattn.pairs.tokens import PairTokens, PlaceFeatures, Points


def points(batch: int = 2, count: int = 6) -> Points:
    return Points(torch.randn(batch, count), torch.randn(batch, count), torch.randint(0, 2, (batch, count)))


@pytest.mark.parametrize("fourier", [0, 4])
def test_features_are_similar_for_near_locations_only(fourier: int) -> None:
    features = PlaceFeatures(fourier)(torch.tensor([-2.0, -1.999, 2.0]))
    assert features.shape == (3, 1 + 2 * fourier)
    assert (features[0] - features[1]).abs().amax() < 0.01
    assert (features[0] - features[2]).abs().amax() > 1.0


def test_a_token_tells_values_from_baselines() -> None:
    tokens, given = PairTokens(8, 2), points()
    assert (tokens(given, 6) - tokens(given, 0)).abs().amax(dim=2).amin() > 1e-3


@pytest.mark.parametrize("embed", ["one_hot", "learned", "hidden"])
def test_a_token_tells_its_sequence_unless_hidden(embed: str) -> None:
    tokens, given = PairTokens(8, 2, TokenOptions(embed)), points()  # type: ignore[arg-type]
    other = given._replace(member=1 - given.member)
    differs = (tokens(given, 4) - tokens(other, 4)).abs().amax(dim=(0, 2)) > 1e-5
    assert differs.tolist() == [embed != "hidden"] * 4 + [True] * 2


def test_lists_of_points_join_with_and_without_absent_ones() -> None:
    a, b = points(), points()
    assert a.followed_by(b).seen is None
    hidden = b._replace(seen=torch.zeros_like(b.member, dtype=torch.bool))
    joined = a.followed_by(hidden)
    assert joined.seen.tolist() == [[True] * 6 + [False] * 6] * 2
    assert joined.mask.shape == (2, 1, 1, 12)
    assert joined.x.equal(torch.cat([a.x, b.x], dim=1))
