"""sabre/dav, the engine of Nextcloud, ownCloud and Baïkal, in PHP's own web server."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import process

USER, PASSWORD = "u1", "pw"
_LIBRARY = Path("/usr/share/php/Sabre")
_TABLES = Path("/usr/share/doc/php-sabre-dav/examples/sql")

_SERVER = r"""<?php
error_reporting(E_ALL & ~E_DEPRECATED & ~E_NOTICE & ~E_WARNING & ~E_STRICT);
ini_set('display_errors', '0');
spl_autoload_register(function ($name) {
    $file = '/usr/share/php/' . str_replace('\\', '/', $name) . '.php';
    if (file_exists($file)) { require_once $file; }
});
foreach (['autoload.php', 'DAV/autoload.php'] as $each) {
    if (file_exists("/usr/share/php/Sabre/$each")) { require_once "/usr/share/php/Sabre/$each"; break; }
}
$pdo = new PDO('sqlite:' . __DIR__ . '/db.sqlite');
$pdo->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
$pdo->exec('PRAGMA busy_timeout = 20000');
$pdo->exec('PRAGMA synchronous = OFF');
class PlainLogin extends Sabre\DAV\Auth\Backend\AbstractBasic {
    public $pdo;
    protected function validateUserPass($user, $password) {
        $query = $this->pdo->prepare('SELECT digesta1 FROM users WHERE username = ?');
        $query->execute([$user]);
        return $query->fetchColumn() === md5("$user:SabreDAV:$password");
    }
}
if (getenv('LOGIN') === 'digest') {
    $login = new Sabre\DAV\Auth\Backend\PDO($pdo);
} else {
    $login = new PlainLogin;
    $login->pdo = $pdo;
}
$people = new Sabre\DAVACL\PrincipalBackend\PDO($pdo);
$server = new Sabre\DAV\Server([
    new Sabre\CalDAV\Principal\Collection($people),
    new Sabre\CalDAV\CalendarRootNode($people, new Sabre\CalDAV\Backend\PDO($pdo)),
    new Sabre\CardDAV\AddressBookRoot($people, new Sabre\CardDAV\Backend\PDO($pdo)),
]);
$server->setBaseUri('/');
$server->addPlugin(new Sabre\DAV\Auth\Plugin($login, 'SabreDAV'));
$server->addPlugin(new Sabre\DAVACL\Plugin());
$server->addPlugin(new Sabre\CalDAV\Plugin());
$server->addPlugin(new Sabre\CardDAV\Plugin());
$server->exec();
"""


@dataclass(frozen=True)
class Sabre:
    """A running server."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def running(*, digest: bool = False) -> Iterator[Sabre]:
    """sabre/dav with one user, without .well-known addresses: its root is the way in."""
    process.need("php", str(_LIBRARY))
    with process.folder() as root:
        _database(root / "db.sqlite")
        (root / "server.php").write_text(_SERVER)
        process.give(root)
        port = process.free_port()
        command = ["php", "-S", f"127.0.0.1:{port}", root / "server.php"]
        settings = {"PHP_CLI_SERVER_WORKERS": "4", "LOGIN": "digest" if digest else "basic"}
        with process.running(command, port, log=root / "log", env=settings):
            yield Sabre(port)


def _database(place: Path) -> None:
    """The tables that Debian ships as an example, with our user in them."""
    with sqlite3.connect(place) as database:
        for name in ("principals", "users", "addressbooks", "calendars", "locks"):
            database.executescript((_TABLES / f"sqlite.{name}.sql").read_text())
        database.executescript("DELETE FROM users; DELETE FROM principals")
        digest = hashlib.md5(f"{USER}:SabreDAV:{PASSWORD}".encode()).hexdigest()  # noqa: S324
        database.execute("INSERT INTO users (username, digesta1) VALUES (?, ?)", (USER, digest))
        database.execute(
            "INSERT INTO principals (uri, email, displayname) VALUES (?, ?, ?)",
            (f"principals/{USER}", "u1@x.test", USER),
        )
    database.close()
