"""The processes that train together, and the machine each of them runs on."""
