"""quickXorHash: the checksum that OneDrive and SharePoint keep of every file.

A 160-bit state; byte i is xored in, rotated by 11·i bits; at the end the length is xored into the
last eight bytes. The rotation is back where it began after 160 bytes, so data is summed up as large
integers, moved by where it begins within 160 bytes, and folded to that size at the end: C does nearly
all of it, at more than a gigabyte a second.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from operator import itemgetter

WIDTH = 160
SHIFT = 11
PERIOD = WIDTH
"""Bytes after which the rotation is back where it began: 11·160 bits are 11 whole turns."""


PIECE = 400 * PERIOD
"""Bytes taken at a time: numbers of this size stay in the processor's cache and in memory that is at hand."""


class QuickXor:
    """A running quickXorHash, fed with `update`."""

    __slots__ = ("_length", "_sum")

    def __init__(self) -> None:
        self._sum = 0
        self._length = 0

    def update(self, data: bytes) -> None:
        """Take more bytes."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            number = int.from_bytes(view[start : start + PIECE], "little")
            moved = (self._length + start) % PERIOD
            self._sum ^= number << (8 * moved) if moved else number
        self._length += len(view)

    def base64(self) -> str:
        """The hash of everything so far, as Graph writes it."""
        folded = _fold(self._sum).to_bytes(PERIOD, "little")
        state = 0
        for bits, chosen in enumerate(_CHOSEN):
            state ^= int.from_bytes(chosen(folded), "little") << bits
        mask = (1 << WIDTH) - 1
        state = (state & mask) ^ (state >> WIDTH) ^ (self._length << (WIDTH - 64))
        return base64.b64encode((state & mask).to_bytes(WIDTH // 8, "little")).decode()


def _moved_by(bits: int) -> itemgetter[Sequence[int]]:
    """Chooses the bytes that are rotated by so many bits beyond a whole number of bytes, in the order in which they then lie."""
    places = {position * SHIFT % WIDTH: position for position in range(PERIOD)}
    return itemgetter(*(places[shift] for shift in range(bits, WIDTH, 8)))


_CHOSEN = tuple(_moved_by(bits) for bits in range(8))


def _fold(number: int) -> int:
    """The xor of all periods in a number, by xoring halves."""
    width = 8 * PERIOD
    while width < number.bit_length():
        width *= 2
    while width > 8 * PERIOD:
        width //= 2
        number = (number & ((1 << width) - 1)) ^ (number >> width)
    return number
