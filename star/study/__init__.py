"""Several runs compared: seeds and ablations."""
