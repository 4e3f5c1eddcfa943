"""Training: the loop, its steps, plan, memory and timing."""

from star.train.start import train

__all__ = ["train"]
