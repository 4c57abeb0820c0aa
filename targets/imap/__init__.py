"""Mail into any IMAP server.

`Imap` is the target. Where folders go and what becomes of a message before it is put are
strategies that another target brings along: see `layout.Layout` and `targets.letters`.
"""

from targets.imap.layout import Folders, Layout
from targets.imap.target import Imap, Letters

__all__ = ["Folders", "Imap", "Layout", "Letters"]
