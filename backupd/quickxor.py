"""quickXorHash: the checksum that OneDrive and SharePoint keep of every file.

A 160-bit state; byte i is xored in, rotated by 11·i bits; at the end the length is xored into the
last eight bytes. The rotation is back where it began after 160 bytes, so data is first folded to
that size by xor of large integers, which C does at about 90 MiB/s.
"""

from __future__ import annotations

import base64

WIDTH = 160
SHIFT = 11
PERIOD = WIDTH
"""Bytes after which the rotation is back where it began: 11·160 bits are 11 whole turns."""


class QuickXor:
    """A running quickXorHash, fed with `update`."""

    __slots__ = ("_folded", "_length", "_tail")

    def __init__(self) -> None:
        self._folded = 0
        self._length = 0
        self._tail = b""

    def update(self, data: bytes) -> None:
        """Take more bytes."""
        self._length += len(data)
        if self._tail:
            data = self._tail + data
        periods = len(data) // PERIOD
        if periods:
            self._folded ^= _fold(memoryview(data)[: periods * PERIOD], periods)
        self._tail = bytes(data[periods * PERIOD :])

    def base64(self) -> str:
        """The hash of everything so far, as Graph writes it."""
        folded = self._folded ^ int.from_bytes(self._tail, "little")
        state = 0
        for position, byte in enumerate(folded.to_bytes(PERIOD, "little")):
            state ^= byte << (position * SHIFT % WIDTH)
        mask = (1 << WIDTH) - 1
        state = (state & mask) ^ (state >> WIDTH) ^ (self._length << (WIDTH - 64))
        return base64.b64encode((state & mask).to_bytes(WIDTH // 8, "little")).decode()


def _fold(data: memoryview, periods: int) -> int:
    """The xor of all periods in `data`, by xoring halves."""
    odd = 0
    while periods > 1:
        half = periods // 2
        first = int.from_bytes(data[: half * PERIOD], "little")
        second = int.from_bytes(data[half * PERIOD : 2 * half * PERIOD], "little")
        if periods % 2:
            odd ^= int.from_bytes(data[2 * half * PERIOD :], "little")
        data, periods = memoryview((first ^ second).to_bytes(half * PERIOD, "little")), half
    return odd ^ int.from_bytes(data, "little")
