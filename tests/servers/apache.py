"""Apache with mod_dav: the WebDAV server that keeps to the standard, over HTTP or TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import process

USER, PASSWORD = "u1", "pw"
PROGRAM = "/usr/sbin/apache2"
MODULES = Path("/usr/lib/apache2/modules")
LOADED = (
    "mpm_event authn_core authn_file authz_core authz_user auth_basic dav dav_fs dav_lock mime ssl"
)

_CONFIG = """
ServerRoot {root}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {root}/run/pid
ErrorLog {root}/error.log
DefaultRuntimeDir {root}/run
Mutex file:{root}/lock
{modules}
TypesConfig /dev/null
DocumentRoot {root}/files
DavLockDB {root}/lock/DavLock
LimitXMLRequestBody 0
SSLEngine {encrypted}
{keys}
<Directory {root}/files>
  Dav On
  AuthType Basic
  AuthName dav
  AuthUserFile {root}/users
  Require valid-user
</Directory>
"""


@dataclass(frozen=True)
class Apache:
    """A running server, and the folder that it serves."""

    port: int
    files: Path
    certificate: Path | None
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}/"


@contextmanager
def running(
    *, encrypted: bool = False, port: int = 0, files: Path | None = None
) -> Iterator[Apache]:
    """Apache with one user, from the moment it takes connections.

    `port` and `files` are those of an earlier server that is to come back.
    """
    process.need(PROGRAM, "openssl", str(MODULES / "mod_dav_fs.so"))
    with process.folder() as root:
        port = port or process.free_port()
        for each in ("run", "lock", "files"):
            (root / each).mkdir()
        if files is not None:
            (root / "files").rmdir()
            (root / "files").symlink_to(files)
        keys = process.certificate(root) if encrypted else None
        hashed = subprocess.run(
            ["openssl", "passwd", "-apr1", PASSWORD], check=True, capture_output=True, text=True
        )
        (root / "users").write_text(f"{USER}:{hashed.stdout}")
        settings = {
            "root": root,
            "port": port,
            "encrypted": "on" if keys else "off",
            "keys": f"SSLCertificateFile {keys[0]}\nSSLCertificateKeyFile {keys[1]}"
            if keys
            else "",
            "modules": "\n".join(
                f"LoadModule {each}_module {MODULES}/mod_{each}.so" for each in LOADED.split()
            ),
        }
        (root / "httpd.conf").write_text(_CONFIG.format(**settings))
        process.give(root)
        command = [PROGRAM, "-f", root / "httpd.conf", "-DFOREGROUND"]
        with process.running(command, port, log=root / "log") as server:
            yield Apache(port, files or root / "files", keys[0] if keys else None, server)
