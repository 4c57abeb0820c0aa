"""The units for systemd: one text for the file in the repository and for this installation.

`systemd/*.service` are what `plan` makes of a plain installation; a test holds them together.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backupd.config import Config, Imap, Microsoft365
from backupd.errors import UserError

STATE_DIR = Path("/var/lib/backupd")
CREDENTIALS, ENCRYPTED = Path("/etc/credstore"), Path("/etc/credstore.encrypted")
"""Where systemd itself looks for credentials."""

SANDBOX = """\
# What it may do: read its configuration, write its state and the storages on this machine, talk to the network.
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
KeyringMode=private
DevicePolicy=closed
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
MemoryHigh=1536M
MemoryMax=2G
TasksMax=512
OOMPolicy=stop
"""

IDENTITY = """\
User={user}
Group={group}
{state}{writable}Environment=PYTHONDONTWRITEBYTECODE=1
# Secrets that the configuration names no file for, by the names that it would look for. They are read
# by systemd as root and handed to this service alone:
#   LoadCredential=sources.contoso.client_secret:/etc/credstore/sources.contoso.client_secret
#   LoadCredentialEncrypted=storage.primary.password     (from /etc/credstore.encrypted)
{credentials}"""

SERVICE = """\
[Unit]
Description=backupd: continuous backup of Microsoft 365
Documentation=man:restic(1)
Wants=network-online.target
After=network-online.target time-sync.target
StartLimitIntervalSec=600
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={command} run
ExecReload=/bin/kill -HUP $MAINPID
# Alive means: the scheduler ticks and no job hangs.
WatchdogSec=90
Restart=on-failure
RestartSec=10
# 2: the configuration is at fault; starting again would not mend it.
RestartPreventExitStatus=2
TimeoutStartSec=120
# Jobs reach a safe point within 20 seconds; a kill after that only repeats some work.
TimeoutStopSec=40
KillMode=mixed
Nice=5
{identity}
{sandbox}
[Install]
WantedBy=multi-user.target
"""

ONCE = """\
[Unit]
Description=backupd: one backup of Microsoft 365
Documentation=man:restic(1)
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
Type=oneshot
ExecStart={command} backup
# 3: done, with items that could not be read; 75: try later, which the timer does.
SuccessExitStatus=3 75
TimeoutStartSec=infinity
TimeoutStopSec=40
KillMode=mixed
Nice=10
{identity}
{sandbox}"""

TIMER = """\
[Unit]
Description=backupd: a backup of Microsoft 365 every quarter of an hour

[Timer]
OnBootSec=2min
OnUnitInactiveSec=15min
RandomizedDelaySec=1min
Unit=backupd-backup.service

[Install]
WantedBy=timers.target
"""

SYSUSERS = """\
# The user that backupd runs as.
u {user} - "backupd" {state_dir}
"""

TMPFILES = """\
# Mirrors are a full plain-text copy of every account: owner only. Secrets for root only, systemd hands them on.
d {state_dir} 0700 {user} {user} -
d /etc/credstore 0700 root root -
d /etc/credstore.encrypted 0700 root root -
"""


@dataclass(frozen=True)
class Plan:
    """What to write where, and what to type afterwards.

    Attributes:
        files: absolute path → text.
    """

    files: Mapping[str, str]
    next_steps: list[str] = field(default_factory=list)


def plan(
    path: Path,
    config: Config,
    *,
    user: str = "backupd",
    timer: bool = False,
    program: str | None = None,
) -> Plan:
    """The units for a configuration and for `program`, else for the Python that runs this."""
    places = [path] if program else [path, Path(sys.prefix), Path(sys.base_prefix)]
    program = program or f"{_quoted(Path(sys.prefix) / 'bin' / 'python')} -m backupd"
    command = f"{program} --config {_quoted(path)}"
    home = "read-only" if any(map(_in_a_home, places)) else "yes"
    names = list(credentials(config))
    filled = {
        "command": command,
        "identity": IDENTITY.format(
            user=user,
            group=user,
            state=_state(config.state_dir),
            writable=_writable(config),
            credentials="".join(f"{_load(name)}\n" for name in names),
        ),
        "sandbox": SANDBOX.format(home=home),
    }
    folder = "/etc/systemd/system"
    if timer:
        files = {
            f"{folder}/backupd-backup.service": ONCE.format(**filled),
            f"{folder}/backupd-backup.timer": TIMER,
        }
    else:
        files = {f"{folder}/backupd.service": SERVICE.format(**filled)}
    if user == "backupd":
        files["/etc/sysusers.d/backupd.conf"] = SYSUSERS.format(
            user=user, state_dir=config.state_dir
        )
    files["/etc/tmpfiles.d/backupd.conf"] = TMPFILES.format(user=user, state_dir=config.state_dir)
    return Plan(files, list(_next(config, names, user, timer=timer)))


def credentials(config: Config) -> Iterator[str]:
    """The secrets that the configuration names no file for: systemd is to pass them on."""
    for source in config.sources.values():
        yield from _mailbox_passwords(source) if _by_password(source) else _client_secret(source)
    for name, storage in config.storage.items():
        if not (storage.password_file or storage.password_command):
            yield f"storage.{name}.password"


def _by_password(source: Microsoft365 | Imap) -> bool:
    return isinstance(source, Imap) and source.auth == "password"


def _client_secret(source: Microsoft365 | Imap) -> Iterator[str]:
    application = (
        source.auth == "app" if isinstance(source, Microsoft365) else source.sign_in == "app"
    )
    if application and not (source.client_secret_file or source.certificate_file):
        yield f"sources.{source.name}.client_secret"


def _mailbox_passwords(source: Microsoft365 | Imap) -> Iterator[str]:
    if not isinstance(source, Imap):
        return
    for box in source.everyone:
        if not (box.password_file or source.password_file):
            whose = "" if source.username else f".{box.username}"
            yield f"sources.{source.name}{whose}.password"


def write(plan: Plan, root: Path = Path("/")) -> None:
    """Write the files. Raises UserError when that is not allowed."""
    for name, text in plan.files.items():
        path = root / name.lstrip("/")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_text(text, encoding="utf-8")
            fresh.chmod(0o644)
            fresh.replace(path)
        except OSError as error:
            raise UserError(
                f"Cannot write {path}: {error.strerror}.",
                hint="Run this as root (sudo), or look at the files with --dry-run.",
                reason="not-writable",
            ) from error


def verify(plan: Plan) -> list[str]:
    """What systemd-analyze has to say against the units; nothing where there is none."""
    if shutil.which("systemd-analyze") is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for name, text in plan.files.items():
            if name.endswith((".service", ".timer")):
                unit = Path(folder) / Path(name).name
                unit.write_text(text, encoding="utf-8")
                found.append(str(unit))
        said = subprocess.run(
            ["systemd-analyze", "verify", *found],  # noqa: S607 - found in PATH above
            capture_output=True,
            text=True,
            check=False,
        )
    return [
        line for line in said.stderr.splitlines() if any(Path(unit).name in line for unit in found)
    ]


def _load(name: str) -> str:
    """Encrypted where there is an encrypted one."""
    if (ENCRYPTED / name).exists():
        return f"LoadCredentialEncrypted={name}"
    return f"LoadCredential={name}:{CREDENTIALS / name}"


def _state(folder: Path) -> str:
    if folder != STATE_DIR:
        return f"ReadWritePaths={_quoted(folder)}\n"
    return "StateDirectory=backupd\nStateDirectoryMode=0700\n"


def _writable(config: Config) -> str:
    """Storages that are folders of this machine, and the few files that lie elsewhere."""
    repositories = (each.repository.split("{")[0] for each in config.storage.values())
    folders = [Path(each) for each in repositories if each.startswith("/")]
    folders += [each.token_file.parent for each in config.sources.values() if each.token_file]
    folders += [config.metrics.textfile.parent] if config.metrics.textfile else []
    outside = [each for each in dict.fromkeys(folders) if not each.is_relative_to(config.state_dir)]
    return "".join(f"ReadWritePaths={_quoted(each, optional=True)}\n" for each in outside)


def _in_a_home(path: Path) -> bool:
    return any(path.is_relative_to(each) for each in ("/home", "/root", "/run/user"))


def _quoted(path: Path, *, optional: bool = False) -> str:
    """A path as a unit takes it: `%` doubled, quoted where there is a blank, `-` when it may be missing."""
    text = ("-" if optional else "") + str(path).replace("\\", "\\\\").replace('"', '\\"').replace(
        "%", "%%"
    )
    return f'"{text}"' if any(char.isspace() for char in text) else text


def _next(config: Config, names: list[str], user: str, *, timer: bool) -> Iterator[str]:
    if user == "backupd":
        yield "systemd-sysusers"
    yield "systemd-tmpfiles --create /etc/tmpfiles.d/backupd.conf"
    for name in names:
        if not (ENCRYPTED / name).exists() and not (CREDENTIALS / name).exists():
            yield f"install -m 600 /dev/stdin {CREDENTIALS / name}    # type the secret, then Ctrl-D"
            yield (
                f"  or: systemd-ask-password -n | systemd-creds encrypt --name={name} - {ENCRYPTED / name}"
                "    # and run this command again"
            )
    for storage in config.storage.values():
        if storage.repository.startswith("/"):
            yield f"install -d -m 700 -o {user} -g {user} {storage.repository.split('{')[0].rstrip('/')}"
    yield f"# every file that the configuration names must be readable for {user}"
    yield "systemctl daemon-reload"
    yield f"systemctl enable --now {'backupd-backup.timer' if timer else 'backupd.service'}"
    yield f"journalctl -u {'backupd-backup' if timer else 'backupd'} -f"
