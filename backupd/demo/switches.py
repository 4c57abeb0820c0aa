"""Behaviours that are not faults but belong to the service, each to be turned while it runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Switches:
    """How the simulated service behaves. Defaults are what a client meets on an ordinary day.

    Attributes:
        page_size: rows on a page when the client names no size.
        latency: seconds that every Graph answer takes, so that requests overlap.
        page_limit: rows above which a page ends in 503 with an empty body; 0 for no limit.
        empty_page_every: every n-th page of a round is empty but has a next link; 0 for never.
        replay_every: every n-th page repeats the last row of the one before; 0 for never.
        sparse_updates: an update of a known message carries only what changed.
        immutable_id_defect: with immutable ids a moved message is never reported in its new folder.
        strict_id_type: a cursor is refused when the id type differs from the one it began with.
        unstable_mime: every fetch of a message has other multipart boundaries.
        mime_limit: bytes above which `$value` of a message ends in 504.
        concurrency: requests in flight that a mailbox allows.
        window_requests: requests that a mailbox allows in one window.
        window_seconds: the length of that window.
        clock_scale: how much faster than ours the service's window clock runs.
        retry_after: `seconds`, `date` or `none`: how throttling says when to come back.
        retry_after_seconds: what it says.
        rate_limit_headers: OneDrive answers carry RateLimit headers from 80 % of the budget on.
        resource_units: the budget of OneDrive and SharePoint per minute, in resource units.
        token_lifetime: seconds that an access token lives.
        download_lifetime: seconds that a download address lives.
        transaction_conflict: a repeated `transactionId` is refused with 409; else the event is answered again.
        upload_lifetime: seconds that an upload session lives.
        range_mode: `partial` (206), `whole` (200) or `unsatisfiable` (416) on a Range request.
        control_characters: JSON strings hold raw control characters where a name has them.
        device_code_auto: device codes are approved as soon as they are asked for.
        device_code_interval: seconds a client must wait between polls.
    """

    page_size: int = 10
    latency: float = 0.001
    page_limit: int = 0
    empty_page_every: int = 5
    replay_every: int = 3
    sparse_updates: bool = True
    immutable_id_defect: bool = False
    strict_id_type: bool = True
    unstable_mime: bool = False
    mime_limit: int = 25 * 1024 * 1024
    concurrency: int = 4
    window_requests: int = 10_000
    window_seconds: float = 600.0
    clock_scale: float = 1.0
    retry_after: str = "seconds"
    retry_after_seconds: int = 1
    rate_limit_headers: bool = True
    resource_units: int = 1_250
    token_lifetime: int = 3_600
    download_lifetime: float = 3_600.0
    transaction_conflict: bool = False
    upload_lifetime: float = 3_600.0
    range_mode: str = "partial"
    control_characters: bool = True
    device_code_auto: bool = True
    device_code_interval: int = 1
