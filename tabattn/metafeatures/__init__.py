"""Meta-features: numbers that describe a table and its target column, the same for every table."""

from tabattn.metafeatures.features import NAMES, MetaFeatures, get_meta_features
from tabattn.metafeatures.reading import numbers
from tabattn.metafeatures.scaling import MetaScaler

__all__ = ["NAMES", "MetaFeatures", "MetaScaler", "get_meta_features", "numbers"]
