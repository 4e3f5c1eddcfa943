"""A token store as a torch data set: splits, order, batches, statistics."""

from star.data.dataset import Batch, TokenDataset

__all__ = ["Batch", "TokenDataset"]
