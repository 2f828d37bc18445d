"""The client that blocks: the same calls, each of which returns when it is done."""

from __future__ import annotations

from . import _annulet
from ._annulet import BucketPolicy, Entry, ScanEntry, Written
from ._calls import DELETE, BucketCalls, ClientCalls, ScanCalls, SessionCalls
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
]

_Operation = _annulet.Operation
_run = _Operation.wait


def _drive(steps):
    try:
        step = next(steps)
        while True:
            if type(step) is _Operation:
                step = step.wait()
            step = steps.send(step)
    except StopIteration as over:
        return over.value


class Scan(ScanCalls):
    __slots__ = ()

    def __iter__(self):
        return self

    def __next__(self):
        while not self._ready:
            if self._is_over:
                raise StopIteration
            self._take(*self._native.next_page(self._seen).wait())
        return self._next()


class Bucket(BucketCalls):
    __slots__ = ()

    _run = staticmethod(_run)
    _drive = staticmethod(_drive)
    _scan = Scan


class Session(SessionCalls):
    __slots__ = ()

    _run = staticmethod(_run)
    _bucket = Bucket


class Client(ClientCalls):
    __slots__ = ()

    _run = staticmethod(_run)
    _bucket = Bucket
    _session = Session

    def __enter__(self):
        return self

    def __exit__(self, *_raised):
        self.close()


def connect(
    *,
    profile=None,
    timeout=None,
    level=None,
    zone=None,
    region=None,
    connections_max=None,
    idle_after=None,
    check_one_in=None,
):
    """Connects to the cluster of a profile: the file given, else the one that `ANNULET_PROFILE`
    names, else `.annulet/profile.toml` here or in a parent folder, else the user's. It takes up to
    five seconds; `timeout` and `level` are those of operations that name none."""
    operation = _annulet.connect(
        profile,
        timeout,
        level,
        zone,
        region,
        connections_max,
        idle_after,
        check_one_in,
    )
    return Client(operation.wait())
