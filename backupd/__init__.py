"""Continuous backup of Microsoft 365 into restic, and restore to somewhere else.

Start reading at `model` (the nouns) and `ports` (the seams); then the verbs: `sync`,
`snapshot`, `restore`. `app` puts them together and `cli` is the door for people.
"""

__version__ = "0.1.0"
