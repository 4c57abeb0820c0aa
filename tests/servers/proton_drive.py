"""A script that answers like Proton's command line for Drive and keeps the files in a folder."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

SCRIPT = r"""#!{python}
import hashlib, json, pathlib, shutil, sys
home = pathlib.Path({home!r})
args = sys.argv[1:]
with (home / "calls").open("a") as log:
    log.write(json.dumps(args) + "\n")
if args == ["version"]:
    print("Proton Drive CLI " + (home / "version").read_text())
    sys.exit(0)
if not (home / "session").exists():
    print("You need to login first", file=sys.stderr)
    sys.exit(1)
drive = home / "drive"

def at(path):
    root, _, rest = path.strip("/").partition("/")
    found = drive / rest
    if root != "my-files" or not found.exists():
        print(f"Node not found: {{path}}", file=sys.stderr)
        sys.exit(1)
    return found

def node(path):
    made = {{"uid": str(path), "name": {{"ok": True, "value": path.name}}, "type": "folder"}}
    if path.is_file():
        data = path.read_bytes()
        made["type"] = "file"
        made["activeRevision"] = {{"ok": True, "value": {{
            "claimedSize": len(data),
            "claimedDigests": {{"sha1": hashlib.sha1(data).hexdigest(), "sha1Verified": True}}}}}}
    return made

def merge(here, there, failures):
    if here.is_dir():
        there.mkdir(exist_ok=True)
        for each in sorted(here.iterdir()):
            merge(each, there / each.name, failures)
    elif here.name.startswith("refused"):
        failures.append({{"name": here.name, "error": "ValidationError: no"}})
    elif not there.exists():
        shutil.copy(here, there)

words = [each for each in args[2:] if not each.startswith("--") and each not in ("merge", "skip")]
if args[:2] == ["filesystem", "list"]:
    print("[\n" + ",\n".join(json.dumps(node(each)) for each in at(words[0]).iterdir()) + "\n]")
elif args[:2] == ["filesystem", "upload"]:
    failures = []
    for each in words[:-1]:
        merge(pathlib.Path(each), at(words[-1]) / pathlib.Path(each).name, failures)
    print(json.dumps({{"failedItems": len(failures), "failures": failures}}))
    if failures:
        print(f"{{len(failures)}} item(s) failed to upload", file=sys.stderr)
        sys.exit(1)
elif args[:2] == ["filesystem", "download"]:
    for each in words[:-1]:
        shutil.copy(at(each), pathlib.Path(words[-1]) / at(each).name)
else:
    sys.exit(1)
"""


def proton_drive(home: Path, *, version: str = "0.4.5", logged_in: bool = True) -> Path:
    """The script, in a folder of its own; what it keeps is in `home/drive`, what it was told in `home/calls`."""
    (home / "drive").mkdir(parents=True)
    (home / "version").write_text(version)
    if logged_in:
        (home / "session").touch()
    script = home / "bin" / "proton-drive"
    script.parent.mkdir()
    script.write_text(SCRIPT.format(python=sys.executable, home=str(home)))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script
