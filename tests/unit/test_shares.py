"""Any k of n shares give the secret back; fewer, mixed or mistyped ones say what is wrong."""

from __future__ import annotations

import hashlib
import hmac
from itertools import combinations

import pytest
from shamir_mnemonic import combine_mnemonics

from backupd.errors import UserError
from backupd.keys import shares

SECRET = shares.Secret(bytes(range(16)))


def rfc5869(secret: bytes, info: str) -> str:
    """HKDF with SHA-256 as the standard writes it down, for one block."""
    inner = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(inner, info.encode() + b"\x01", hashlib.sha256).hexdigest()


@pytest.mark.parametrize(("needed", "number"), [(2, 2), (2, 3), (3, 5)])
def test_every_combination_gives_the_secret_back_and_fewer_do_not(needed: int, number: int) -> None:
    cut = shares.split(SECRET, needed, number)
    joined = shares.join_all(cut, needed)
    assert joined.complete
    assert joined.secrets == (SECRET,)
    for chosen in combinations(cut, needed):
        assert shares.join(chosen) == SECRET
        assert combine_mnemonics(chosen) == SECRET.value  # any program that knows SLIP-39 can
    with pytest.raises(UserError, match=f"{needed} shares are needed, {needed - 1} given"):
        shares.join(cut[: needed - 1])


def test_more_shares_than_needed_do_no_harm_and_the_same_one_twice_is_one() -> None:
    cut = shares.split(SECRET, 2, 3)
    assert shares.join(cut) == SECRET
    with pytest.raises(UserError, match="2 shares are needed, 1 given"):
        shares.join([cut[0], cut[0].upper()])


def test_what_is_too_many_to_try_is_drawn_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MOST_JOINED", 30)
    joined = shares.join_all(shares.split(SECRET, 3, 10), 3)
    assert (joined.tried, joined.possible, joined.complete) == (30, 120, False)
    assert joined.secrets == (SECRET,)


def test_a_share_may_be_typed_with_numbers_and_four_letters_a_word() -> None:
    first, second, _ = shares.split(SECRET, 2, 3)
    short = "\n".join(f"{at}. {word[:4].upper()}," for at, word in enumerate(first.split(), 1))
    assert shares.join([short, second]) == SECRET
    assert shares.found_in(f"Share 1 of 3\n\n{first}\n{second}\n") == [first, second]
    assert shares.found_in(short) == [first]
    assert shares.found_in(" \n") == []
    assert [shares.number_of(each) for each in (first, second)] == [1, 2]


def test_a_mistyped_share_is_found_out_by_its_own_words() -> None:
    first, second, _ = shares.split(SECRET, 2, 3)
    words = first.split()
    words[5], words[6] = "academic" if words[5] != "academic" else "acid", words[5]
    with pytest.raises(UserError, match="Share 1 is mistyped") as raised:
        shares.join([" ".join(words), second])
    assert not any(word in str(raised.value).split() for word in words if len(word) > 5)
    for broken in ("", "one two three", "не слово", " ".join(words[:19])):
        with pytest.raises(UserError):
            shares.join([second, broken or "x"])
    with pytest.raises(UserError, match="No share"):
        shares.join([])


def test_shares_of_two_sets_do_not_join() -> None:
    one, other = shares.split(SECRET, 2, 3), shares.split(shares.new_secret(), 2, 3)
    with pytest.raises(UserError, match="do not belong together"):
        shares.join([one[0], other[1]])


@pytest.mark.parametrize(("needed", "number"), [(1, 1), (1, 3), (4, 3), (2, 17), (0, 0)])
def test_cuts_that_make_no_sense_are_refused(needed: int, number: int) -> None:
    with pytest.raises(UserError, match="cannot be made"):
        shares.split(SECRET, needed, number)


def test_each_vault_has_a_password_of_its_own_that_a_few_lines_can_derive() -> None:
    alice, bob = (
        SECRET.password("contoso/alice@a.example"),
        SECRET.password("contoso/bob@a.example"),
    )
    assert alice != bob
    assert alice == rfc5869(SECRET.value, "backupd recovery 1: contoso/alice@a.example")
    assert SECRET.mark not in alice
    assert SECRET.value.hex() not in repr(SECRET)
