"""Alerts: a person is told, over a channel that is not Microsoft's."""
