"""Controls: what simpler methods reach on the clips of a run."""
