"""S3 Object Lock: whether a bucket keeps what is deleted, and locking what the vaults in it need.

A lock counts from when an object was written, but a deduplicated vault goes on needing its oldest
packs. So what a vault consists of now is locked again and again, for the whole span each time; what
`prune` removed is not, and its earlier versions become free when their lock ends.

A bucket must be created with Object Lock; afterwards few stores can switch it on. That it says so is
not enough: one without versions keeps no lock, whatever it answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal

import certifi
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from minio.retention import Retention

from backupd.config import Storage
from backupd.errors import AuthError, UserError, VaultError, VaultUnreachable
from backupd.vaults.locations import parse

Mode = Literal["governance", "compliance"]

State = Literal["locks", "versions", "none"]
"""Locks objects; keeps earlier versions only; neither."""

PARTS = ("config", "data/", "index/", "keys/", "snapshots/")
"""What a vault consists of; restic's own `locks/` come and go."""

WORKERS = 8
"""Objects locked at the same time: each waits for one small answer."""
PAGE = 1_000
SECONDS, TRIES = 30.0, 3

NEVER = "ObjectLockConfigurationNotFoundError"
MISSING = frozenset({"NoSuchBucket", "NoSuchKey"})


@dataclass(frozen=True, slots=True)
class Offer:
    """What a storage offers; `said` is one clause for people."""

    state: State
    said: str


def look(storage: Storage, location: str) -> Offer:
    """Ask the bucket of an S3 location. Raises AuthError, VaultUnreachable or VaultError."""
    bucket = _Bucket(storage, location)
    versions = bucket.ask(bucket.client.get_bucket_versioning, bucket.name).status == "Enabled"
    try:
        rule = bucket.ask(bucket.client.get_object_lock_config, bucket.name)
    except VaultError as error:
        if error.reason != NEVER:
            raise
        rule = None
    if rule is not None and versions:
        span = f"{rule.mode.lower()}, {rule.duration[0]} {rule.duration[1].lower()}" if rule.mode else "none"  # fmt: skip
        return Offer("locks", f"the bucket has Object Lock (its own rule: {span})")
    if versions:
        return Offer(
            "versions", "the bucket keeps earlier versions, but no Object Lock protects them"
        )
    return Offer(
        "none", "the bucket offers no Object Lock: whoever has its key can destroy the vaults in it"
    )


def extend(storage: Storage, location: str, until: datetime, mode: Mode) -> int:
    """Lock everything that a vault consists of until a moment; how many objects. Raises as `look`."""
    bucket = _Bucket(storage, location)
    retention = Retention(mode.upper(), until)

    def lock(name: str) -> None:
        bucket.ask(bucket.client.set_object_retention, bucket.name, name, retention)

    count, names = 0, bucket.names()
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="lock") as workers:
        while page := list(islice(names, PAGE)):
            count += sum(1 for _ in workers.map(lock, page))
    return count


class _Bucket:
    """A bucket, and the vault in it."""

    def __init__(self, storage: Storage, location: str) -> None:
        place = parse(location)
        self._label = f"storage.{storage.name}"
        self.name, _, prefix = place.path.partition("/")
        self._prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        keys = storage.environment()
        self.client = Minio(
            f"{place.host}:{place.port}",
            keys.get("AWS_ACCESS_KEY_ID"),
            keys.get("AWS_SECRET_ACCESS_KEY"),
            keys.get("AWS_SESSION_TOKEN"),
            secure=place.scheme != "http",
            region=keys.get("AWS_DEFAULT_REGION"),
            http_client=_pool(storage),
        )

    def names(self) -> Iterator[str]:
        """The objects that the vault consists of."""
        for part in PARTS:
            prefix = self._prefix + part
            for found in self._listed(prefix):
                if part.endswith("/") or found == prefix:
                    yield found

    def _listed(self, prefix: str) -> Iterator[str]:
        try:
            for each in self.client.list_objects(self.name, prefix=prefix, recursive=True):
                if each.object_name:
                    yield each.object_name
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._named(error) from error

    def ask(self, question: Any, *arguments: Any) -> Any:
        """Ask the store; errors as ours."""
        try:
            return question(*arguments)
        except (MinioException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise self._named(error) from error

    def _named(self, error: Exception) -> UserError | VaultError:
        code = str(error.code) if isinstance(error, S3Error) else ""
        if isinstance(error, urllib3.exceptions.HTTPError):
            return VaultUnreachable(
                f"{self._label} does not answer: {type(error).__name__}.",
                hint="Is the network up, and does the storage run?", reason="unreachable",
            )  # fmt: skip
        if code in MISSING:
            return VaultError(
                f"{self._label} has no bucket {self.name!r} yet.",
                hint="Create it with Object Lock: a bucket without one can seldom be given it later.",
                reason="no-bucket",
            )
        if code in {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}:
            return AuthError(
                f"{self._label} does not let this key see or set Object Lock ({code}).",
                hint="It needs s3:GetBucketVersioning, s3:GetBucketObjectLockConfiguration, s3:ListBucket and "
                "s3:PutObjectRetention.",
                reason="denied",
            )
        return VaultError(
            f"{self._label} cannot be asked about Object Lock ({code or type(error).__name__}).",
            hint="Some stores speak S3 without Object Lock.",
            reason=code or "no-answer",
        )


def _pool(storage: Storage) -> urllib3.PoolManager:
    trusted = storage.ca_file or os.environ.get("SSL_CERT_FILE") or certifi.where()
    return urllib3.PoolManager(
        timeout=urllib3.Timeout(SECONDS),
        maxsize=WORKERS,
        retries=urllib3.Retry(TRIES, backoff_factor=0.5, status_forcelist=[500, 502, 503, 504]),
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(trusted),
        cert_file=str(storage.client_certificate_file) if storage.client_certificate_file else None,
    )
