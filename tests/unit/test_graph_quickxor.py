"""quickXorHash against known vectors and against its literal definition."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.quickxor import QuickXor


def by_definition(data: bytes) -> str:
    state, mask = 0, (1 << 160) - 1
    for position, byte in enumerate(data):
        shifted = byte << (position * 11 % 160)
        state ^= (shifted & mask) ^ (shifted >> 160)
    state ^= len(data) << 96
    return base64.b64encode((state & mask).to_bytes(20, "little")).decode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("Sg==", "SgAAAAAAAAAAAAAAAQAAAAAAAAA="),
        ("tbQ=", "taAFAAAAAAAAAAAAAgAAAAAAAAA="),
        ("0pZP", "0rDEEwAAAAAAAAAAAwAAAAAAAAA="),
    ],
)
def test_known_vectors(data: str, expected: str) -> None:
    quick = QuickXor()
    quick.update(base64.b64decode(data))

    assert quick.base64() == expected


@given(st.lists(st.binary(max_size=700), max_size=8))
def test_any_pieces_give_the_hash_of_the_whole(pieces: list[bytes]) -> None:
    quick = QuickXor()
    for piece in pieces:
        quick.update(piece)

    assert quick.base64() == by_definition(b"".join(pieces))


def test_looking_at_the_hash_does_not_change_it() -> None:
    quick = QuickXor()
    quick.update(b"x" * 500)
    first = quick.base64()

    assert quick.base64() == first
    quick.update(b"y")
    assert quick.base64() == by_definition(b"x" * 500 + b"y")
