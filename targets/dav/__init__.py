"""Calendars, contacts and files over HTTP: CalDAV, CardDAV and WebDAV."""
