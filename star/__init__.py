"""The STAR-Transformer and its training, from a token store. Needs no video library."""
