"""What is said in plain words, without any library: an error must not wait for one to load."""

from __future__ import annotations

import json
import sys


def show_error(
    message: str, hint: str, exit_code: int, *, reason: str = "", as_json: bool = False
) -> None:
    """Print an error: `error: …`, `hint: …` on stderr; with JSON also as the object on stdout."""
    if as_json:
        told = {"message": message, "hint": hint, "reason": reason, "exit_code": exit_code}
        sys.stdout.write(json.dumps({"error": told}, ensure_ascii=False) + "\n")
        return
    sys.stderr.write(f"error: {printable(message)}\n")
    if hint:
        sys.stderr.write(f"hint: {printable(hint)}\n")


def printable(text: str) -> str:
    """Text from anywhere, safe for a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
