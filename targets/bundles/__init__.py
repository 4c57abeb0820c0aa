"""Calendars and contacts as files that a person imports, for providers with no other way in."""

from targets.bundles.limits import Limits
from targets.bundles.target import Bundles

__all__ = ["Bundles", "Limits"]
