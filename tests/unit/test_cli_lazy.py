"""The command line starts at once: a command's module is loaded when the command is typed."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import typer

from backupd.cli import lazy

MODULES = sorted({known.module for known in lazy.COMMANDS})
SLOW = ("sqlalchemy", "httpx", "jinja2", "rich.console", "apprise", "backupd.app")
LIST_LOADED = "import sys, atexit; atexit.register(lambda: print(*sys.modules)); "


@pytest.mark.parametrize("module", MODULES)
def test_the_table_names_every_command_of_a_module_and_no_other(module: str) -> None:
    app = typer.Typer()
    import_module(f"backupd.cli.{module}").register(app)
    registered = set(typer.main.get_group(app).commands)
    assert registered == {known.name for known in lazy.COMMANDS if known.module == module}


@pytest.mark.parametrize("arguments", [["--help"], ["version"], ["--version"], ["statsu"]])
def test_help_and_usage_errors_load_nothing_slow(arguments: list[str]) -> None:
    script = f"{LIST_LOADED} sys.argv[1:] = {arguments!r}; from backupd.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert "backupd" in done.stdout
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "backupd.cli" in loaded
    assert not loaded & set(SLOW)


def test_a_line_of_help_fits_its_line() -> None:
    longest = max(len(known.name) for known in lazy.COMMANDS)
    assert not [known.name for known in lazy.COMMANDS if longest + 4 + len(known.help) > 78]
