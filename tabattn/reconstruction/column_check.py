"""Check of the columns that a network was built for against those of the data."""

from collections.abc import Sequence

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_warn

from tabattn.contract.cells import Column


def check_columns(own: Sequence[Column], given: Sequence[Column]) -> None:
    """Check that a network serves the columns of the data; warn where they are standardised by other training rows.

    Args:
        own: Columns that the network was built for.
        given: Columns of the data.

    Raises:
        MisconfigurationException: Their number, names, categories or targets differ.
    """
    if len(own) != len(given):
        raise MisconfigurationException(f"the network was built for {len(own)} columns, the data has {len(given)}")
    pairs = list(zip(own, given, strict=True))
    for ours, theirs in pairs:
        if difference := ours.difference(theirs):
            raise MisconfigurationException(f"the network was built for column {ours.name!r}, {difference}")
    for ours, theirs in pairs:
        if (ours.mean, ours.std) != (theirs.mean, theirs.std):
            rank_zero_warn(
                f"column {ours.name!r} has the mean {theirs.mean:g} in the training rows of the data, {ours.mean:g} "
                "in those of the network: these are others, so rows that trained the network may be scored"
            )
            return
