"""Proton: mail through Bridge, calendars and contacts as files for its web app, files into its Drive."""

from __future__ import annotations

from dataclasses import replace

from backupd.ports import Target
from targets.endpoint import Endpoint
from targets.proton.drive import ProtonDrive, program
from targets.proton.imports import calendar, contacts
from targets.proton.laid_down import LaidDown
from targets.proton.mail import ProtonMail as mail  # noqa: N813 - what `targets.KINDS` names
from targets.rclone import Rclone

__all__ = ["calendar", "contacts", "files", "mail"]


def files(endpoint: Endpoint) -> Target:
    """The part of a Proton account that takes files, by the best way there is.

    A remote that the configuration names wins; else Proton's command line where it is installed;
    else a folder that a person uploads.
    """
    if endpoint.remote:
        return Rclone(endpoint)
    if endpoint.path is None and program(endpoint).found:
        return ProtonDrive(endpoint)
    return LaidDown(replace(endpoint, path=endpoint.path or endpoint.state / "proton-drive"))
