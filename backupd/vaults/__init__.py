"""Vaults and the storages that they lie in: snapshots are made, read back, kept and forgotten."""
