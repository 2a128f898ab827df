"""Type of the sources of real tables; free of pandas, as every datamodule imports it."""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

    Source: TypeAlias = str | pd.DataFrame
else:
    # The command line takes text alone.
    Source = str
