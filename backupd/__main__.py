"""`python -m backupd` is `backupd`."""

from backupd.cli import main

main()
