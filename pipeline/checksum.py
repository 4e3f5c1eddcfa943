"""CRC-32C, the checksum that Zarr's `crc32c` codec and the commit records hold for every chunk.

In: bytes, or any contiguous buffer. Out: the checksum as an integer. Finds every single flipped bit and every burst of
up to 32; tells nothing about intent: content is told apart by SHA-256 (`pipeline.commit`).
"""

from __future__ import annotations

from awscrt import checksums

CRC_BYTES = 4  # little-endian, after the bytes that it covers


def crc32c(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """The checksum of `data`, or of all that `before` is the checksum of with `data` after it.

    awscrt's, since it is the fastest: one core checks 40 GB/s, where google-crc32c checks 5 to 10, which is no more
    than a warm file can be read at (`python benchmarks/store.py --checksums`).
    """
    return int(checksums.crc32c(memoryview(data).cast("B"), before))


def crc_tail(data: bytes | bytearray | memoryview) -> bytes:
    """The checksum of `data` as the four bytes that follow it in a chunk."""
    return crc32c(data).to_bytes(CRC_BYTES, "little")
