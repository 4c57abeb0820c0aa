"""One recovery secret for all vaults, and the shares that it is cut into.

A secret of 128 random bits yields the recovery password of every vault (HKDF with SHA-256, RFC 5869), so that a fleet
needs one set of shares, and one vault can be handed over without giving away another. The secret itself is kept
nowhere: it is cut into k-of-n shares by SLIP-39, words that a person can type and other programs can join. Its
reference implementation was never audited and promises nothing against whoever measures the machine while it
cuts or joins: do either on a machine of your own.
"""

from __future__ import annotations

import hmac
import random
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from math import comb

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from shamir_mnemonic import MnemonicError, generate_mnemonics
from shamir_mnemonic.shamir import EncryptedMasterSecret, decode_mnemonics, recover_ems
from shamir_mnemonic.share import Share
from shamir_mnemonic.wordlist import WORDLIST

from backupd.errors import UserError

SECRET_BYTES = 16
"""128 bits: out of reach of any search, and 20 words a share instead of 33 to be typed on a bad day."""

PURPOSE = "backupd recovery 1: "
"""Begins what a vault's password is derived for; the number changes when the derivation ever does."""

FEWEST_NEEDED = 2
"""One share that opens everything is a password on paper."""

MOST_SHARES = 16
"""SLIP-39 has four bits for a share's number."""

MOST_JOINED = 2_000
"""Combinations that are all joined; of more, so many are drawn by chance, and every share is among them."""

SHORTEST = 20
"""Words of a share of 128 bits."""

PREFIX = 4
"""Letters after which no two words of SLIP-39's list are the same."""


@dataclass(frozen=True, slots=True)
class Secret:
    """The recovery secret."""

    value: bytes = field(repr=False)

    @property
    def mark(self) -> str:
        """Eight digits by which a set is known; they say nothing about the secret."""
        return self.password("the mark of this set")[:8]

    def password(self, vault: str) -> str:
        """The recovery password of a vault: 64 hexadecimal digits.

        Args:
            vault: what it is called for this purpose, `SOURCE/ACCOUNT` (see `keys.Keyed.name`).
        """
        info = f"{PURPOSE}{vault}".encode()
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self.value).hex()


@dataclass(frozen=True, slots=True)
class Joined:
    """What became of joining shares in every way that should work.

    Attributes:
        tried: combinations joined, of `possible` ones.
        secrets: what came out, each once; one if all is well.
    """

    tried: int
    possible: int
    secrets: tuple[Secret, ...]

    @property
    def complete(self) -> bool:
        """Whether no combination was left out."""
        return self.tried == self.possible


def new_secret() -> Secret:
    """A secret from the system's random numbers."""
    return Secret(secrets.token_bytes(SECRET_BYTES))


def split(secret: Secret, needed: int, number: int) -> list[str]:
    """Cut a secret into `number` shares of which any `needed` give it back. Raises UserError."""
    if not FEWEST_NEEDED <= needed <= number <= MOST_SHARES:
        raise UserError(
            f"{needed} of {number} shares cannot be made.",
            hint=f"At least {FEWEST_NEEDED} must be needed, and at most {MOST_SHARES} can be made: 2 of 3, or 3 of 5.",
            reason="usage",
        )
    return list(generate_mnemonics(1, [(needed, number)], secret.value)[0])


def join_all(shares: Sequence[str], needed: int) -> Joined:
    """Join every combination of `needed` shares. Raises UserError when one cannot be joined."""
    possible, found, tried = comb(len(shares), needed), dict[bytes, Secret](), 0
    for chosen in _combinations(shares, needed, possible):
        sealed = _sealed(chosen)
        tried += 1
        if sealed.ciphertext not in found:  # unsealing is slow by intent: once for each outcome
            found[sealed.ciphertext] = Secret(sealed.decrypt(b""))
    return Joined(tried, possible, tuple(found.values()))


def _combinations(shares: Sequence[str], needed: int, possible: int) -> Iterator[Sequence[str]]:
    if possible <= MOST_JOINED:
        yield from combinations(shares, needed)
        return
    chance = random.SystemRandom()
    for share in shares:
        others = [each for each in shares if each != share]
        yield [share, *chance.sample(others, needed - 1)]
    for _ in range(MOST_JOINED - len(shares)):
        yield chance.sample(list(shares), needed)


def join(shares: Sequence[str]) -> Secret:
    """The secret behind shares, as many as are needed or more. Raises UserError saying what is missing."""
    distinct = list(dict.fromkeys(map(tidy, shares)))
    if not distinct:
        raise UserError("No share was given.", hint="One share a line.", reason="shares")
    read = [_read(each, place) for place, each in enumerate(distinct, 1)]
    if len({each.common_parameters() for each in read}) > 1:
        raise UserError(
            "These shares do not belong together.",
            hint="Shares of one set begin with the same three words. Older sheets may be of a set that was "
            "replaced.",
            reason="shares",
        )
    needed = read[0].member_threshold
    if len(distinct) < needed:
        raise UserError(
            f"{needed} shares are needed, {len(distinct)} given.",
            hint="Ask another person who keeps one. All shares of a set begin with the same three words.",
            reason="shares",
        )
    return Secret(_sealed(distinct[:needed]).decrypt(b""))


def number_of(share: str) -> int:
    """Which share of its set this is, from 1. Raises UserError."""
    return int(_read(tidy(share), 1).index) + 1


def needed_of(share: str) -> int:
    """How many shares of its set are needed. Raises UserError."""
    return int(_read(tidy(share), 1).member_threshold)


def tidy(typed: str) -> str:
    """A share as typed, with numbering and punctuation dropped and shortened words completed."""
    return " ".join(_word(each) for each in re.findall(r"[a-z]+", typed.lower()))


def _word(typed: str) -> str:
    return _by_prefix().get(typed[:PREFIX], typed) if len(typed) == PREFIX else typed


@cache
def _by_prefix() -> dict[str, str]:
    return {word[:PREFIX]: word for word in WORDLIST}


def _read(share: str, place: int) -> Share:
    try:
        return Share.from_mnemonic(share)
    except (MnemonicError, ValueError) as error:
        words = len(share.split())
        raise UserError(
            f"Share {place} is mistyped: its {words} words do not fit together.",
            hint="A share has 20 words and the last three check the others. Compare it with the sheet word by "
            "word; the first four letters of a word are enough.",
            reason="shares",
        ) from error


def _sealed(shares: Sequence[str]) -> EncryptedMasterSecret:
    try:
        return recover_ems(decode_mnemonics(shares))
    except MnemonicError as error:
        raise UserError(
            "These shares cannot be joined: one of them is of another set, or was altered.",
            hint="Shares of one set begin with the same three words.",
            reason="shares",
        ) from error


def same(one: Secret, other: Secret) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.value, other.value)


def found_in(text: str) -> list[str]:
    """The shares in a text: every line that is made of words of the list, else all its words as one share."""
    lines = [tidy(line) for line in text.splitlines()]
    found = [line for line in lines if len(line.split()) >= SHORTEST and _known(line)]
    whole = tidy(text)
    return found or ([whole] if whole else [])


def _known(line: str) -> bool:
    words = _by_prefix().values()
    return all(word in words for word in line.split())
