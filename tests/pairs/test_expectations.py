"""Residual baselines, against loops."""

import torch

from tabattn.pairs.expectations import levels, nearest, parallel
from tabattn.pairs.tokens import Points


def points(batch: int = 2, count: int = 6, members: int = 2) -> Points:
    return Points(torch.randn(batch, count), torch.randn(batch, count), torch.randint(0, members, (batch, count)))


def test_nearest_equals_a_loop() -> None:
    known, asked = points(count=7), points(count=5)
    known = known._replace(seen=torch.rand(2, 7) > 0.3)
    visible = torch.rand(2, 5, 7) > 0.3
    given = nearest(known, asked, visible)
    for b in range(2):
        for i in range(5):
            own = [
                j
                for j in range(7)
                if visible[b, i, j] and known.seen[b, j] and known.member[b, j] == asked.member[b, i]
            ]
            near = known.y[b, min(own, key=lambda j: abs(known.x[b, j] - asked.x[b, i]))] if own else torch.zeros(())
            assert given[b, i] == near


def test_levels_equal_a_loop() -> None:
    known = points(4, 5, 3)
    for seen in (None, torch.rand(4, 5) > 0.3):
        given = levels(known._replace(seen=seen), 3)
        for b in range(4):
            for m in range(3):
                own = [known.y[b, j] for j in range(5) if known.member[b, j] == m and (seen is None or seen[b, j])]
                torch.testing.assert_close(given[b, m], torch.stack(own).mean() if own else torch.zeros(()))


def test_nearest_is_zero_without_visible_points() -> None:
    known = points()
    assert not nearest(known, points(count=3), torch.zeros(3, 6, dtype=torch.bool)).any()


def value_at(known: Points, task: int, among: list[int], x: torch.Tensor) -> torch.Tensor:
    """The value of the one among some points that is nearest to a place."""
    return known.y[task, min(among, key=lambda j: abs(known.x[task, j] - x))]


def test_parallel_equals_a_loop() -> None:
    known, asked = points(4, 12, 3), points(4, 7, 3)
    known = known._replace(seen=torch.rand(4, 12) > 0.3)
    given = parallel(known, asked, 3)
    for b in range(4):
        groups: dict[int, list[int]] = {
            m: [j for j in range(12) if known.seen[b, j] and known.member[b, j] == m] for m in range(3)
        }

        for i in range(7):
            m = int(asked.member[b, i])
            own = groups[m]
            found = []
            for o in range(3):
                if o != m and groups[o] and own:
                    apart = [known.y[b, j] - value_at(known, b, groups[o], known.x[b, j]) for j in own]
                    found.append(value_at(known, b, groups[o], asked.x[b, i]) + torch.stack(apart).mean())
            expected = torch.stack(found).mean() if found else nearest(known, asked)[b, i]
            torch.testing.assert_close(given[b, i], expected)


def test_parallel_is_exact_for_sequences_that_differ_by_a_constant() -> None:
    x = torch.linspace(-2, 2, 9).expand(3, -1)
    curve, height = torch.randn(3, 9), torch.randn(3, 1)
    zero, one = torch.zeros(3, 9, dtype=torch.long), torch.ones(3, 9, dtype=torch.long)
    other = Points(x, curve + height, one)
    shown = Points(*(part[:, :3] for part in other[:3]))
    hidden = Points(x[:, 3:], torch.zeros(3, 6), one[:, 3:])
    found = parallel(Points(x, curve, zero).followed_by(shown), hidden, 2)
    torch.testing.assert_close(found, other.y[:, 3:])
