"""Servers that end a login in other ways than yes and no."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from backupd.errors import AuthError, BackupdError, ConfigError, TransientError
from backupd.imap.connect import Login
from backupd.imap.session import open_session


@contextmanager
def saying(*lines: bytes, heard: list[bytes] | None = None) -> Iterator[int]:
    """A server that greets, then answers each line it hears with the next of its own, and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            client, _ = listener.accept()
            with client, client.makefile("rwb") as talk:
                for number, line in enumerate(lines):
                    order = talk.readline() if number else b""
                    if heard is not None:
                        heard.append(order)
                    talk.write(line.replace(b"TAG", order.split(b" ")[0]))
                    talk.flush()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(5)


GREETING = b"* OK [CAPABILITY IMAP4rev1] ready\r\n"
CAPABLE = b"* CAPABILITY IMAP4rev1\r\nTAG OK done\r\n"


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([GREETING, CAPABLE], TransientError),  # the end of the connection is no refusal
        ([GREETING, CAPABLE, b"* BYE later\r\n"], TransientError),
        ([GREETING, CAPABLE, b"TAG NO [UNAVAILABLE] later\r\n"], TransientError),
        ([GREETING, CAPABLE, b"TAG NO [AUTHENTICATIONFAILED] who?\r\n"], AuthError),
        ([GREETING, CAPABLE, b"TAG NO who?\r\n"], AuthError),
        ([b"* BYE no\r\n"], TransientError),
        ([b"HTTP/1.1 400 Bad Request\r\n"], TransientError),
        ([], TransientError),
    ],
)
def test_only_a_refusal_is_a_refusal(lines: list[bytes], error: type[BackupdError]) -> None:
    with saying(*lines) as port, pytest.raises(error) as caught:
        open_session(Login("x", "127.0.0.1", port, "u", lambda: "hush", "plain", timeout=2))
    assert "hush" not in str(caught.value)


def test_a_user_name_is_no_command() -> None:
    with saying(GREETING, CAPABLE) as port, pytest.raises(ConfigError, match="control"):
        open_session(Login("x", "127.0.0.1", port, "u\r\nA1 NOOP", lambda: "p", "plain"))
    said: list[bytes] = []
    with saying(GREETING, CAPABLE, b"TAG NO no\r\n", heard=said) as port, pytest.raises(AuthError):
        open_session(Login("x", "127.0.0.1", port, 'a "b" \\', lambda: 'p"', "plain"))
    assert said[-1].split(b" ", 1)[1] == b'LOGIN "a \\"b\\" \\\\" "p\\""\r\n'
