"""Who runs a storage or a target, and under which law."""
