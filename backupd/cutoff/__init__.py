"""Cut-offs: noticed within minutes, told from everything that only looks like one, and frozen."""
