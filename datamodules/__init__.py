"""One LightningDataModule per source of data; the only place that touches bytes."""

from datamodules.prior import SyntheticPrior

__all__ = ["SyntheticPrior"]
