"""Checksums that find damage at the speed of reading: CRC-32C of chunks, CRC-64/NVME of files.

In: bytes, or any contiguous buffer. Out: the checksum as an integer. Both find every single flipped bit; neither
protects against intent: content is identified by SHA-256 (`pipeline.artifacts.fingerprint`).

A file needs another checksum than its chunks: bytes followed by their own CRC-32C have a CRC-32C that depends on their
number alone, so that of a whole shard would be the same for every shard.
"""

from __future__ import annotations

from awscrt import checksums

CRC_BYTES = 4  # little-endian, after the bytes that it covers


def crc32c(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """The CRC-32C of `data`, as in Zarr's `crc32c` codec. `before`: the checksum of the bytes that precede `data`."""
    return int(checksums.crc32c(data, before))


def crc64(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """As `crc32c`, by CRC-64/NVME, which commit records hold for files."""
    return int(checksums.crc64nvme(data, before))


def crc_tail(data: bytes | bytearray | memoryview) -> bytes:
    """The CRC-32C of `data` as the four bytes that follow it in a chunk."""
    return crc32c(data).to_bytes(CRC_BYTES, "little")
