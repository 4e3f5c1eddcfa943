"""The packets of an MPEG-4 part 2 stream that must be decoded for the wanted frames; the others can be skipped.

In: the packets of a whole stream, as bytes, and frame numbers. Out: numbers of packets, or None where it is not proven
that skipping some changes nothing. NTU RGB+D has an intra picture every 12 frames: of 103 frames, 16 spread
evenly need 77.
The proof: every packet is exactly one coded picture, none of them a B-VOP. Then packet i is frame i, and a picture
depends on those since the last I-VOP only. All I-VOPs are kept, since headers that change may stand before them.
Source: ISO/IEC 14496-2, 6.2.3-6.2.5 (start codes, vop_coding_type, vop_coded).
"""

from __future__ import annotations

from collections.abc import Sequence

_VOP = b"\x00\x00\x01\xb6"
_I, _B = 0, 2  # vop_coding_type; 1 is P, 3 is S
# A VOP that is not coded ends after its header: start code, type, seconds, time (16 bits at most), markers, stuffing.
_LONGEST_EMPTY_VOP = 16


def packets_needed(packets: Sequence[bytes], wanted: Sequence[int]) -> list[int] | None:
    """Numbers of the packets that must be decoded, ascending; decoding them gives the frames of the same numbers.

    Args:
        packets: all of the stream's, in its order.
        wanted: frame numbers, sorted.

    Returns: None if a packet is not certain to be one picture (B-VOPs, packed or empty VOPs, damage), or if one of
        `wanted` does not exist: then all must be decoded.
    """
    types = [_picture_type(packet) for packet in packets]
    if not types or types[0] != _I or None in types or wanted[-1] >= len(types):
        return None
    needed: list[int] = []
    remaining = list(reversed(wanted))
    starts = [number for number, vop_type in enumerate(types) if vop_type == _I]
    for start, end in zip(starts, [*starts[1:], len(types)], strict=True):
        last = start
        while remaining and remaining[-1] < end:
            last = remaining.pop()
        needed += range(start, last + 1)
        if not remaining:
            break
    return needed


def _picture_type(packet: bytes) -> int | None:
    """The type of the one coded picture in `packet`; None if there is not exactly one, or if it is a B-VOP."""
    at = packet.find(_VOP)
    if at < 0 or len(packet) - at <= _LONGEST_EMPTY_VOP or b"\x00\x00\x01" in packet[at + 4 :]:
        return None
    vop_type = packet[at + 4] >> 6
    if vop_type == _B or (vop_type != _I and at > 0):  # headers before another picture than an I-VOP must be decoded
        return None
    return vop_type
