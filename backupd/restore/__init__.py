"""The verb restore: vault or mirror → target, quiet, additive, resumable, and proven."""
