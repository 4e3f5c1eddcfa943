"""The checksums are the published ones, and a file's can tell shards apart."""

from __future__ import annotations

import numpy as np

from pipeline.artifacts.checksum import crc32c, crc64, crc_tail

CHECK = b"123456789"  # the message for which catalogues of checksums give each one's value


def test_they_are_the_published_ones() -> None:
    assert crc32c(CHECK) == 0xE3069283
    assert crc64(CHECK) == 0xAE8B14860A799888
    assert crc_tail(CHECK) == (0xE3069283).to_bytes(4, "little")


def test_they_go_on_where_they_stopped() -> None:
    for crc in (crc32c, crc64):
        assert crc(CHECK[4:], crc(CHECK[:4])) == crc(CHECK)
        assert crc(memoryview(np.frombuffer(CHECK, np.uint8))) == crc(CHECK)


def test_a_files_checksum_sees_what_the_chunks_own_hide() -> None:
    """Why files have another: content followed by its CRC-32C has one CRC-32C, whatever the content."""
    one, other = (content + crc_tail(content) for content in (b"a" * 50, b"b" * 50))
    assert crc32c(one) == crc32c(other)
    assert crc64(one) != crc64(other)
