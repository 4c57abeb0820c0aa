"""quickXorHash, the only hash that OneDrive for Business promises.

Each byte is XORed into a 160-bit ring at a place 11 bits after the one before, so the places
repeat every 1,760 bytes and XOR lets all repetitions be folded first.
"""

from __future__ import annotations

import base64

PERIOD = 1_760
_BITS = 160
_STEP = 11
_RING = (1 << _BITS) - 1


def fold(data: bytes) -> int:
    """XOR `data` over itself every PERIOD bytes, as a little-endian number."""
    folded = 0
    for at in range(0, len(data), PERIOD):
        folded ^= int.from_bytes(data[at : at + PERIOD], "little")
    return folded


def digest(folded: int, size: int) -> str:
    """The hash in base64, from the folded content and its size in bytes."""
    ring = 0
    for place, byte in enumerate(folded.to_bytes(PERIOD, "little")):
        ring ^= byte << (place * _STEP % _BITS)
    ring = (ring & _RING) ^ (ring >> _BITS) ^ (size << (_BITS - 64))
    return base64.b64encode((ring & _RING).to_bytes(_BITS // 8, "little")).decode()


def quick_xor(data: bytes) -> str:
    """The hash of `data` in base64."""
    return digest(fold(data), len(data))
