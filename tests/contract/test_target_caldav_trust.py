"""CalDAV over TLS trusts one certificate, and survives a server that goes away."""

from __future__ import annotations

import gc
import imaplib
import socket
import ssl
import threading
from contextlib import suppress
from itertools import islice

import pytest
import stamina
from parcels import loaded, parcel, shelf
from servers import radicale, sabre
from servers.cyrus import cyrus
from servers.dav import Place
from servers.process import certificate, folder, stop

from backupd import tls
from backupd.errors import AuthError, TransientError, UserError
from backupd.model import Service
from backupd.ports import Parcel, Put, Shelf
from targets.dav.caldav import CalDav


def ics(uid: str) -> bytes:
    return (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//t//t//EN\r\nBEGIN:VEVENT\r\n"
        f"UID:{uid}\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20260302T100000Z\r\nDURATION:PT1H\r\n"
        "END:VEVENT\r\nEND:VCALENDAR\r\n"
    ).encode()


def test_a_certificate_is_trusted_by_file_or_pin_and_by_nothing_else() -> None:
    with radicale.running(encrypted=True) as server:
        assert server.certificate is not None
        pin = "sha256:" + tls.fingerprint_of(
            ssl.PEM_cert_to_DER_cert(server.certificate.read_text())
        )
        base = Place("radicale", server.url, "", "", None)  # type: ignore[arg-type]
        for trust, ends in (
            ({}, "certificate"),
            ({"fingerprint": "sha256:" + "0" * 64}, "certificate"),
            ({"ca_file": server.certificate}, ""),
            ({"fingerprint": pin}, ""),
        ):
            target = CalDav(base.endpoint("caldav", **trust))
            if ends:
                with pytest.raises(UserError) as caught:
                    list(target.preflight())
                assert caught.value.reason == ends
                assert caught.value.hint
            else:
                assert list(target.preflight())
            target.close()


def test_nothing_is_sent_to_a_server_with_another_certificate() -> None:
    got: list[bytes] = []
    with folder() as home, socket.create_server(("127.0.0.1", 0)) as listener:
        cert, key = certificate(home)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)

        def serve() -> None:
            raw, _ = listener.accept()
            with suppress(OSError), context.wrap_socket(raw, server_side=True) as session:
                session.settimeout(5)
                got.append(session.recv(4096))

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        base = Place("radicale", url, "", "", None)  # type: ignore[arg-type]
        target = CalDav(base.endpoint("caldav", fingerprint="sha256:" + "ab" * 32))
        with pytest.raises(UserError) as caught:
            list(target.preflight())
        target.close()
        thread.join()
    assert caught.value.reason == "certificate"
    assert got in ([], [b""])


def test_a_server_that_wants_digests_gets_them_from_every_thread() -> None:
    where = shelf(Service.CALENDAR, "Digest")
    pairs = [(parcel(where, f"{n}.ics", d), d) for n in range(12) for d in [ics(f"{n}@t")]]
    with sabre.running(digest=True) as server:
        base = Place("sabre", server.url, "", "", None)  # type: ignore[arg-type]
        target = CalDav(base.endpoint("caldav", connections=4))
        assert {put.state for _, put in target.put(where, loaded(pairs), look=True)} == {"restored"}
        target.close()
        target = CalDav(base.endpoint("caldav", secret=lambda: "wrong"))
        with pytest.raises(AuthError):
            list(target.preflight())
        target.close()


def test_a_full_account_stops_the_run_and_says_so() -> None:
    where = shelf(Service.CALENDAR, "Full")
    long = ics("long@t").replace(b"DURATION", b"DESCRIPTION:" + b"x" * 200_000 + b"\r\nDURATION")
    with cyrus(quota=100) as server:
        with imaplib.IMAP4(
            server.host, server.imap
        ) as session:  # the first login makes the mailbox
            session.login("u1", server.password)
        base = Place("cyrus", server.url + "/", "", "", None)  # type: ignore[arg-type]
        target = CalDav(base.endpoint("caldav"))
        with pytest.raises(UserError) as caught:
            list(target.put(where, loaded([(parcel(where, "a.ics", long), long)]), look=False))
        assert caught.value.reason == "quota"
        target.close()


def put_until_it_stops(
    target: CalDav, where: Shelf, pairs: list[tuple[Parcel, bytes]], server: radicale.Radicale
) -> dict[str, Put]:
    """Put items while the server is stopped after the third; answers what was told until then."""
    answers = target.put(where, loaded(pairs), look=False)
    done = {each.key: put for each, put in islice(answers, 3)}
    stop(server.process)  # type: ignore[arg-type]
    with suppress(TransientError):
        done |= {each.key: put for each, put in answers}
        pytest.fail("nobody noticed")
    return done


def test_a_server_that_goes_away_is_for_later_and_what_arrived_was_told() -> None:
    where = shelf(Service.CALENDAR, "Away")
    pairs = [(parcel(where, f"{n}.ics", d), d) for n in range(12) for d in [ics(f"{n}@t")]]
    with radicale.running() as server, stamina.set_testing(True, attempts=2):
        base = Place("radicale", server.url, "", "", None)  # type: ignore[arg-type]
        target = CalDav(base.endpoint("caldav"))
        done = put_until_it_stops(target, where, pairs, server)
        target.close()
    gc.collect()
    assert 3 <= len(done) < 12
    assert {put.state for put in done.values()} == {"restored"}
