"""Which module a command lives in: only the one that is typed is loaded.

The database layer alone takes half a second to import, and who asks for help has no use for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class Known:
    """A command before it is loaded: its name, its module in `backupd.cli`, a line of help."""

    name: str
    module: str
    help: str


COMMANDS = (
    Known("status", "reading", "If cut off now: what is lost, and what to type."),
    Known("restore", "restoring", "Put an account into another place, and prove it arrived."),
    Known("recover", "recover", "A new machine: rebuild everything from vaults alone."),
    Known("evacuate", "running", "Get out what can still be got out, urgent things first."),
    Known("incidents", "incidents", "Which accounts may be cut off, and on what evidence."),
    Known("init", "setup", "Write a configuration, or begin a new vault."),
    Known("doctor", "checking", "Try configuration, credentials, storages and targets."),
    Known("accounts", "commands", "List the accounts that the sources offer."),
    Known("backup", "commands", "Sync, then snapshot: the whole backup, once."),
    Known("sync", "commands", "Bring the mirrors up to date with the sources."),
    Known("snapshot", "commands", "Write a snapshot of every changed mirror."),
    Known("run", "running", "Stay and do all this by schedule: the service."),
    Known("install-service", "running", "Write systemd units for this configuration."),
    Known("snapshots", "copies", "List the snapshots: of one account, or the newest of all."),
    Known("ls", "looking", "List what is held, now or in a snapshot."),
    Known("find", "looking", "Find items by subject, name or path."),
    Known("export", "exporting", "Copy items out, or all mail in Proton's or mbox form."),
    Known("verify", "verifying", "Prove what is held."),
    Known("repair", "repairing", "Heal what verify found, from whatever is still whole."),
    Known("report", "reporting", "What is safe and what is proven: a signed report."),
    Known("forget", "keeping", "Forget old snapshots by [retention], or erase one person."),
    Known("prune", "keeping", "Free the space of what was forgotten."),
    Known("kit", "kit", "The recovery kit: what to print and keep elsewhere."),
    Known("keys", "keys", "Recovery keys and their shares; new passwords."),
    Known("alerts", "telling", "The channels over which people are told."),
    Known("approve", "incidents", "Let a removal pass that the guard stopped."),
    Known("release", "incidents", "Lift a freeze by hand."),
    Known("demo", "commands", "The whole story in a minute, on a simulated tenant."),
    Known("version", "version", "Print the version."),
)
"""In the order in which a person may need them: the day itself first."""


class Group(TyperGroup):
    """Commands below a name; without one of them, their list."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the parser does it; help is not an error."""
        return super().parse_args(ctx, args or ["--help"])


class LazyGroup(Group):
    """The commands of the table above; a command is loaded when it is called."""

    def __init__(self, **attributes: Any) -> None:
        attributes["commands"] = {
            known.name: TyperCommand(known.name, help=known.help) for known in COMMANDS
        }
        super().__init__(**attributes)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The loaded command that the arguments call for. A usage error when there is none."""
        name, command, rest = super().resolve_command(ctx, args)
        return (name, load(name), rest) if name else (name, command, rest)


def load(name: str) -> Any:
    """Import the module of a command and build the command as the parser wants it."""
    known = next(each for each in COMMANDS if each.name == name)
    app = typer.Typer(rich_markup_mode=None, context_settings=HELP_OPTIONS)
    import_module(f"backupd.cli.{known.module}").register(app)
    return typer.main.get_group(app).commands[name]


HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
