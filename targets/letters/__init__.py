"""What a mail needs before a server takes it: the least change, said in words, the original value kept.

`prepare` is all that a target calls. It never parses and writes a message anew: it edits single
fields of the header block and leaves every other byte as it was, so that what a signature
covers stays true wherever that is possible.
"""

from targets.letters.letter import Letter, keep, prepare
from targets.letters.rules import BRIDGE, PLAIN, Rules

__all__ = ["BRIDGE", "PLAIN", "Letter", "Rules", "keep", "prepare"]
