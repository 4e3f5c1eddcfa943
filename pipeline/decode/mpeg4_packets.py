"""Which packets of an MPEG-4 part 2 stream must be decoded for the wanted frames, so that the others can be left out.

In: the packets of a whole stream, as bytes, and frame numbers. Out: numbers of packets, or None where it cannot be
proven that leaving some out changes nothing. NTU RGB+D has an intra picture every 12 frames: of 103 frames, 16 spread
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

    Returns: None if the packets cannot be told apart with certainty (B-VOPs, packed or empty VOPs, damage), or if one
        of `wanted` is not there: then all must be decoded.
    """
    kinds = [_kind(packet) for packet in packets]
    if not kinds or kinds[0] != _I or None in kinds or wanted[-1] >= len(kinds):
        return None
    needed: list[int] = []
    remaining = list(reversed(wanted))
    starts = [number for number, kind in enumerate(kinds) if kind == _I]
    for start, end in zip(starts, [*starts[1:], len(kinds)], strict=True):
        last = start
        while remaining and remaining[-1] < end:
            last = remaining.pop()
        needed += range(start, last + 1)
        if not remaining:
            break
    return needed


def _kind(packet: bytes) -> int | None:
    """The type of the one coded picture in `packet`; None if there is not exactly one, or if it is a B-VOP."""
    at = packet.find(_VOP)
    if at < 0 or len(packet) - at <= _LONGEST_EMPTY_VOP or b"\x00\x00\x01" in packet[at + 4 :]:
        return None
    kind = packet[at + 4] >> 6
    if kind == _B or (kind != _I and at > 0):  # headers before another picture than an I-VOP: not to be left out
        return None
    return kind
