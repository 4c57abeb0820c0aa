r"""A simulated Microsoft 365 tenant on the loopback interface: for the demo, and for tests.

    with SimulatedTenant(seed=7) as tenant:
        tenant.graph_url, tenant.login_url, tenant.tenant_id, tenant.client_id, tenant.client_secret
        tenant.state.deliver("amelia", "inbox", b"Subject: hello\r\n\r\nhello\r\n")
        tenant.faults.add(Fault("throttle", route="*/$value", times=3))
        tenant.cut_off("licence_removed", "amelia")
        tenant.restore_service()

It speaks the routes of Microsoft Graph that a backup reads and a restore writes, and the token endpoint of Entra ID,
with their habits: small pages, opaque cursors that expire, ids that change, throttling.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from backupd.demo import (
    routes_calendar,
    routes_directory,
    routes_files,
    routes_mail,
    routes_people,
    routes_tasks,
    routes_upload,
    routes_view,
    routes_write_contacts,
    routes_write_events,
)
from backupd.demo.content import Amount, populate
from backupd.demo.control import Control
from backupd.demo.cutoffs import Cutoffs
from backupd.demo.downloads import Downloads
from backupd.demo.faults import Faults
from backupd.demo.gateway import Gateway
from backupd.demo.requestlog import RequestLog
from backupd.demo.routes_login import Login
from backupd.demo.routing import Router
from backupd.demo.server import HOST, Server
from backupd.demo.state import TenantState, Who
from backupd.demo.switches import Switches
from backupd.demo.throttle import Throttle
from backupd.demo.tokens import CursorCodec, TokenMint
from backupd.demo.uploads import Uploads

if TYPE_CHECKING:
    from types import TracebackType

    from backupd.demo.calls import Answer, Call

DOMAIN = "harbourlight.example"


def _batch(call: Call) -> Answer:
    """The gateway answers batches itself; the route exists so that it is found."""
    raise AssertionError(call.route)


class SimulatedTenant:
    """The tenant: start it with `with`, or with `start` and `stop`.

    Attributes:
        state: the truth, with methods that change it; `state.outbox` holds every invitation that was sent.
        switches: behaviours that belong to the service.
        faults: what goes wrong.
        log: what was asked.
        cutoffs: the scenarios in force.

    Args:
        seed: the same seed gives the same people, ids, contents and faults.
        port: the port of login and Graph; 0 for any.
        bulk_messages: made messages in the archive of the first user, made only when fetched.
        amount: the other fields of `content.Amount`: `people=6`, `messages=30`, `extras=True`
            (shared mailbox, room and site), `oddities=True` (one of everything that gives trouble).
    """

    def __init__(
        self,
        seed: int = 7,
        *,
        port: int = 0,
        bulk_messages: int = 0,
        **amount: Any,
    ) -> None:
        self.state = TenantState(seed, DOMAIN)
        self.switches = Switches()
        self.faults = Faults(seed)
        self.log = RequestLog()
        self.cutoffs = Cutoffs(self.state)
        self.graph_url = self.login_url = self.download_url = ""
        self._port = port
        self._downloads = Downloads(self.switches, self.faults, self.log)
        self._uploads = Uploads(self.switches, self.faults, self.log)
        populate(self.state, Amount(bulk=bulk_messages, **amount))
        self.state.baseline()
        self._server, self._login = self._assemble(str(seed).encode())

    @property
    def tenant_id(self) -> str:
        """The directory (tenant) id."""
        return self.state.tenant_id

    @property
    def client_id(self) -> str:
        """The id of the registered application."""
        return self.state.app.id

    @property
    def client_secret(self) -> str:
        """The secret of the registered application: worthless outside this process."""
        return self.state.app.secret

    def start(self) -> SimulatedTenant:
        """Listen; returns when both ports answer."""
        main, side = self._server.start(self._port)
        self.graph_url = f"http://{HOST}:{main}/v1.0"
        self.login_url = f"http://{HOST}:{main}/login"
        self.download_url = f"http://{HOST}:{side}"
        return self

    def stop(self) -> None:
        """Close every connection."""
        self._server.stop()

    def __enter__(self) -> SimulatedTenant:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def cut_off(self, scenario: str, who: Who | None = None) -> None:
        """Put a scenario of `cutoffs.SCENARIOS` in force; raises KeyError for an unknown one."""
        self.cutoffs.begin(scenario, who)

    def restore_service(self) -> None:
        """End every scenario."""
        self.cutoffs.end()

    def expire_downloads(self) -> None:
        """Let every download address handed out so far expire."""
        self._downloads.expire()

    def expire_uploads(self) -> None:
        """Let every upload session under way end as it does after some days."""
        self._uploads.expire()

    def approve_device(self, user_code: str, who: str = "") -> None:
        """Approve a device code as the person would in a browser."""
        self._login.approve_device(user_code, who)

    def decline_device(self, user_code: str) -> None:
        """Decline a device code."""
        self._login.decline_device(user_code)

    def sign_in_as(self, who: Who) -> None:
        """Who approves device codes and authorization requests from now on; the first user else."""
        self._login.person = self.state.user(who).id

    def revoke_refresh_tokens(self) -> None:
        """What a password reset does to delegated logins."""
        self._login.revoke_refresh_tokens()

    def register_certificate(self, pem: bytes) -> str:
        """Let the application log in with a certificate; its SHA-256 thumbprint as `x5t#S256`."""
        certificate = x509.load_pem_x509_certificate(pem)
        der = certificate.public_bytes(serialization.Encoding.DER)
        key = certificate.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        thumbprint = _b64url(hashlib.sha256(der).digest())
        old_style = _b64url(certificate.fingerprint(hashes.SHA1()))  # noqa: S303 - x5t is SHA-1
        self.state.app.certificates |= {thumbprint: key, old_style: key}
        return thumbprint

    def _assemble(self, secret: bytes) -> tuple[Server, Login]:
        mint = TokenMint(secret)
        gateway = Gateway(
            self.state,
            self.switches,
            self.faults,
            self.cutoffs,
            mint,
            CursorCodec(secret),
            self.log,
            router(self._uploads),
            Throttle(self.switches),
            self._downloads,
        )
        login = Login(self.state, self.switches, mint, self.cutoffs)
        control = Control(self.state, self.switches, self.faults, self.cutoffs, self.log)
        return Server(gateway, login, self._downloads, self._uploads, control), login


def router(uploads: Uploads | None = None) -> Router:
    """Every route that the tenant answers; `uploads` serves the sessions that it hands out."""
    return Router(
        routes_mail.ROUTES,
        routes_calendar.ROUTES,
        routes_view.ROUTES,
        routes_tasks.ROUTES,
        routes_people.ROUTES,
        routes_files.ROUTES,
        routes_upload.routes(uploads),
        routes_write_contacts.ROUTES,
        routes_write_events.routes(uploads),
        routes_directory.ROUTES,
        {"POST $batch": _batch},
    )


def _b64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
