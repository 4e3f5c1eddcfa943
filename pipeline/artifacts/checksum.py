"""Checksums that find damage at the speed of reading: CRC-32C of chunks, CRC-64/NVME of files.

In: bytes, or any contiguous buffer. Out: the checksum as an integer. Both find every single flipped bit; they tell
nothing about intent: content is told apart by SHA-256 (`pipeline.artifacts.files`).

A file needs another checksum than the chunks in it: bytes followed by their own CRC-32C have a CRC-32C that depends on
their number alone, so over a whole shard it could not tell one shard from another.
"""

from __future__ import annotations

from awscrt import checksums

CRC_BYTES = 4  # little-endian, after the bytes that it covers


def crc32c(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """Of `data`, or of all that `before` is the checksum of with `data` after it: what Zarr's `crc32c` codec holds."""
    return int(checksums.crc32c(data, before))


def crc64(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """As `crc32c`, by CRC-64/NVME: what commit records hold of files."""
    return int(checksums.crc64nvme(data, before))


def crc_tail(data: bytes | bytearray | memoryview) -> bytes:
    """The CRC-32C of `data` as the four bytes that follow it in a chunk."""
    return crc32c(data).to_bytes(CRC_BYTES, "little")
