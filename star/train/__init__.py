"""Training: the loop, its steps, and what must fit into memory."""

from star.train.start import train

__all__ = ["train"]
