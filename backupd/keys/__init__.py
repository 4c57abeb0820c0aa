"""Keys: who can open a vault, and how that survives the loss of a machine or a person."""
