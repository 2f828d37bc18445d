"""Annulet, a distributed key-value store whose consistency is chosen per bucket and per request.

    client = await annulet.connect()
    carts = client.bucket("default")
    await carts.put("user:1", b"three apples")
    entry = await carts.get("user:1")
    await client.close()

`annulet.sync` has the same calls for programs without `asyncio`.
"""

from __future__ import annotations

from . import sync
from ._annulet import BucketPolicy, Entry, ScanEntry, Written
from ._async import Bucket, Client, Connecting, Scan, Session, connect
from ._calls import DELETE
from ._errors import (
    Closed,
    Conflict,
    Error,
    Internal,
    InvalidInput,
    Overloaded,
    Timeout,
    Unauthorized,
    Unavailable,
)

__all__ = [
    "DELETE",
    "Bucket",
    "BucketPolicy",
    "Client",
    "Closed",
    "Conflict",
    "Connecting",
    "Entry",
    "Error",
    "Internal",
    "InvalidInput",
    "Overloaded",
    "Scan",
    "ScanEntry",
    "Session",
    "Timeout",
    "Unauthorized",
    "Unavailable",
    "Written",
    "connect",
    "sync",
]
