"""Progress bar of the generation of a zoo."""

from typing import Self

from tqdm import tqdm  # type: ignore[import-untyped]


class Bar:
    """Shows on the terminal how many networks are trained.

    Args:
        name: Name of the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: tqdm | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Show that so many of so many networks are trained."""
        if self.bar is None:
            self.bar = tqdm(total=total, initial=done, unit=" networks", desc=self.name)
        self.bar.update(done - self.bar.n)
