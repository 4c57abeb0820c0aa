"""How a recovery password comes out of shares without backupd: a script that the kit carries."""

SCRIPT = '''\
#!/usr/bin/env python3
"""Print the recovery password of a vault. Needs nothing of backupd: pip install shamir-mnemonic

usage: python3 open-vault.py NAME < shares.txt      NAME is in the kit's list; one share a line
then:  export RESTIC_PASSWORD="$(python3 open-vault.py NAME < shares.txt)"
"""
import hashlib, hmac, sys
from shamir_mnemonic import combine_mnemonics

shares = [line.strip() for line in sys.stdin if line.strip()]
secret = combine_mnemonics(shares)  # exactly as many shares as are needed
# HKDF with SHA-256 (RFC 5869), no salt, one block of 32 bytes
key = hmac.new(bytes(32), secret, hashlib.sha256).digest()
info = ("backupd recovery 1: " + sys.argv[1]).encode()
print(hmac.new(key, info + bytes([1]), hashlib.sha256).hexdigest())
'''
