"""The door for people: commands, their output, and errors as words with a hint.

Exit codes: 0 done · 1 failed · 2 usage or configuration · 3 done, with items recorded as
unreadable or quarantined · 4 guard tripped or cut-off · 5 integrity · 75 try later.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import cast

import typer

from backupd.cli.context import Context
from backupd.cli.lazy import HELP_OPTIONS, LazyGroup
from backupd.cli.plain import show_error
from backupd.cli.version import version
from backupd.errors import BackupdError

HELP = """Continuous backup of Microsoft 365 into restic, and restore to somewhere else.

On the day Microsoft is gone: `backupd status`, then `backupd restore --to TARGET --account ADDRESS`.
"""

INTERRUPTED = 130
"""The exit code that shells give to Ctrl-C."""

UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""The parser's own complaint: typer names only its special cases."""

app = typer.Typer(
    name="backupd",
    cls=LazyGroup,
    help=HELP,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=HELP_OPTIONS,
)


def _version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    config: str = typer.Option(None, "--config", metavar="PATH", help="The configuration file."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say more on stderr."),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks."),
    _: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    if not verbose and not debug:
        logging.getLogger("stamina").setLevel(
            logging.ERROR
        )  # what did not help is told as an error
    for chatty in ("asyncio", "imapclient", "httpx", "httpcore", "aiohttp", "sqlalchemy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    context.obj = Context(config, debug=debug)


def main() -> None:
    """Run the command line; never returns."""
    os.umask(0o077)  # the mirror is plain text: whatever we create is its owner's alone
    arguments = sys.argv[1:]
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        code = _run(arguments)
    except (typer.Abort, KeyboardInterrupt):
        hint = "Nothing is lost. Run the same command again: it goes on from here."
        show_error("interrupted", hint, INTERRUPTED, as_json=as_json)
        sys.exit(INTERRUPTED)
    except UsageError as error:
        told = str(getattr(error, "message", error))
        show_error(told, "backupd --help lists commands and options.", 2, as_json=as_json)
        sys.exit(2)
    except BackupdError as error:
        if debug:
            traceback.print_exc()
        show_error(str(error), error.hint, error.exit_code, reason=error.reason, as_json=as_json)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if debug:
            traceback.print_exc()
        show_error(
            f"{error.strerror or error}: {error.filename or 'unknown file'}",
            "Check the path, its permissions and the space on its disk.",
            1,
            as_json=as_json,
        )
        sys.exit(1)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """The exit code of a command. Ctrl-C, which the parser makes an exit code of, is raised again."""
    code = app(args=arguments, prog_name="backupd", standalone_mode=False)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0
