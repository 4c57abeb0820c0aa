"""The mirror: an account as open-format files on local disk, complete by itself."""
