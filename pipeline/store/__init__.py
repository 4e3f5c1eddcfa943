"""The token store: a Zarr v3 group, written shard by shard and read without torch."""

from pipeline.store.batches import DONE, TOKEN_KINDS, TokenBatch
from pipeline.store.token_store import TokenStore
from pipeline.store.write import write_arrays

__all__ = ["DONE", "TOKEN_KINDS", "TokenBatch", "TokenStore", "write_arrays"]
