"""A token store as a torch data set: splits, order, batches, statistics."""

from star.batch import Batch
from star.data.dataset import TokenDataset

__all__ = ["Batch", "TokenDataset"]
