"""Composition: a verb over all accounts, vaults and targets of a configuration."""
