"""What a real table comes from; imported wherever a datamodule is, so without pandas."""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

    Source: TypeAlias = str | pd.DataFrame
else:
    # The command line takes text alone.
    Source = str
