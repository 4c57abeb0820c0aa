"""The verb verify: what is held, proven in five levels.

1. listing: the catalog, the mirror and the newest snapshot of every vault name the same items;
2. packs: `restic check`, and every pack of a vault read over a rolling period;
3. content: bytes out of the vault have the SHA-256 that was taken when they were fetched;
4. source: counts and a sample against the live source, and two ways to a mailbox against each other;
5. drill: a restore into a scratch folder, timed and read back.

Every level of every account and storage ends as a `Verification`: whole, damaged, or not proven. What was
not looked at, or could not be, is never whole.
"""

LISTING, PACKS, CONTENT, SOURCE, DRILL = 1, 2, 3, 4, 5

NAMES = {
    LISTING: "listing",
    PACKS: "packs",
    CONTENT: "content",
    SOURCE: "source",
    DRILL: "drill",
}
"""What people call the levels."""

USUAL = (LISTING, PACKS, CONTENT)
"""The levels that need neither the source nor room on disk: what `verify` does unless told otherwise."""
