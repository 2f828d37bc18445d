"""The calls that both clients have, the one for `asyncio` and the one that blocks.

A call here makes an operation of the native module, and a client's `_run` lets it run: by awaiting
it or by blocking. Calls in several steps are generators that yield operations and get their
results; `_drive` runs those.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from types import GenericAlias
from typing import Any


class Change(Enum):
    """What a function given to `update` may give besides a new value."""

    DELETE = "delete"


DELETE = Change.DELETE


class BucketCalls:
    """Keys are `str` or bytes-like, values bytes-like; durations are seconds or `timedelta`s."""

    __slots__ = ("_name", "_native")

    _run: Any
    _drive: Any
    _scan: Any

    def __init__(self, native: Any, name: str) -> None:
        self._native = native
        self._name = name

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._name

    def __repr__(self) -> str:
        return f"<annulet bucket {self._name!r}>"

    def get(self, key, *, level=None, timeout=None, stale=False):
        """The entry under a key; `None` if there is none or it has expired."""
        return self._run(self._native.get(key, level, timeout, stale))

    def get_merged(self, key, resolve, *, level=None, timeout=None):
        """As `get` in a bucket of mode `siblings`; where concurrent values stand unmerged,
        `resolve` is called with the list of them and gives the entry's value."""
        return self._drive(_get_merged(self._native, key, resolve, level, timeout))

    def exists(self, key, *, level=None, timeout=None, stale=False):
        """Whether a key has a value that has not expired. The value is not sent."""
        return self._run(self._native.exists(key, level, timeout, stale))

    def put(self, key, value, *, ttl=None, expires_at=None, context=None, level=None, timeout=None):
        """Stores a value under a key, in place of what was there."""
        return self._run(self._native.put(key, value, ttl, expires_at, context, level, timeout))

    def delete(self, key, *, context=None, level=None, timeout=None):
        """Removes what is under a key. Removing what is not there is no error."""
        return self._run(self._native.delete(key, context, level, timeout))

    def touch(self, key, *, ttl=None, expires_at=None, level=None, timeout=None):
        """Gives a value a new time to live without sending it; `None` if there is no value."""
        return self._run(self._native.touch(key, ttl, expires_at, level, timeout))

    def put_if_version(self, key, value, version, *, ttl=None, expires_at=None, timeout=None):
        """Stores a value in place of one of this version, in a strong bucket."""
        return self._run(self._native.put_if_version(key, value, version, ttl, expires_at, timeout))

    def put_if_absent(self, key, value, *, ttl=None, expires_at=None, timeout=None):
        """Stores a value under a key that has none, in a strong bucket."""
        return self._run(self._native.put_if_absent(key, value, ttl, expires_at, timeout))

    def delete_if_version(self, key, version, *, timeout=None):
        """Removes a value of this version, in a strong bucket."""
        return self._run(self._native.delete_if_version(key, version, timeout))

    def update(self, key, change, *, ttl=None, expires_at=None, timeout=None):
        """Changes a value by a function of it, in a strong bucket: `change` is called anew with
        the newest value, or `None` if there is none, until nobody else changed it meanwhile. It
        gives the new value, or `DELETE` for none. The timeout is for all tries together."""
        return self._drive(_update(self._native, key, change, ttl, expires_at, timeout))

    def resolve(self, key, op_id):
        """What became of a write of unknown outcome in a strong bucket: `applied` and its version,
        `not_applied`, which it never will be then, or `forgotten`, which nobody can tell."""
        return self._run(self._native.resolve(key, op_id))

    def multi_get(self, keys, *, level=None, timeout=None, stale=False):
        """Gets many keys: a list with an entry, `None` or an `Error` for each, in order."""
        return self._run(self._native.multi_get(_many(keys), level, timeout, stale))

    def multi_put(self, entries, *, ttl=None, expires_at=None, level=None, timeout=None):
        """Puts many values, a mapping or pairs: a list with what was written or an `Error` for
        each, in order."""
        pairs = map(tuple, entries.items() if hasattr(entries, "items") else entries)
        return self._run(self._native.multi_put(list(pairs), ttl, expires_at, level, timeout))

    def multi_delete(self, keys, *, level=None, timeout=None):
        """Deletes many keys: a list with what was written or an `Error` for each, in order."""
        return self._run(self._native.multi_delete(_many(keys), level, timeout))

    def scan(self, *, page_entries=None, cursor=None, level=None, timeout=None):
        """Goes through all keys of the bucket."""
        native = self._native.scan(True, page_entries, cursor, level, timeout)
        return self._scan(native, cursor, _key)

    def scan_entries(self, *, page_entries=None, cursor=None, level=None, timeout=None):
        """Goes through all keys of the bucket with their values."""
        native = self._native.scan(False, page_entries, cursor, level, timeout)
        return self._scan(native, cursor, _whole)


class SessionCalls:
    """Somebody who is never shown anything older than what they have written or seen."""

    __slots__ = ("_native",)

    _run: Any
    _bucket: Any

    def __init__(self, native: Any) -> None:
        self._native = native

    def bucket(self, name):
        """A bucket in which this session reads and writes."""
        return self._bucket(self._native.bucket(name), name)

    def to_bytes(self):
        """What another process needs to go on, at most 64 KiB."""
        return self._run(self._native.to_bytes())


class ClientCalls:
    """A client of one cluster: connect once in a program and keep it."""

    __slots__ = ("_native",)

    _run: Any
    _bucket: Any
    _session: Any

    def __init__(self, native: Any) -> None:
        self._native = native

    def bucket(self, name):
        """A bucket. Asks no server: one that does not exist is found out by the first call."""
        return self._bucket(self._native.bucket(name), name)

    def session(self):
        """A new session."""
        return self._session(self._native.session())

    def session_from(self, token):
        """A session that goes on from what `to_bytes` of another one gave."""
        return self._session(self._native.session_from(token))

    def create_bucket(
        self,
        name,
        *,
        mode=None,
        replicas=None,
        durability=None,
        read_level=None,
        write_level=None,
        ttl=None,
        merge=None,
    ):
        """Makes a bucket. Needs the role `admin`."""
        return self._run(
            self._native.create_bucket(
                name, mode, replicas, durability, read_level, write_level, ttl, merge
            )
        )

    def set_bucket(self, name, *, read_level=None, write_level=None, ttl=None):
        """Changes a bucket's policy. Needs the role `admin`."""
        return self._run(self._native.set_bucket(name, read_level, write_level, ttl))

    def delete_bucket(self, name):
        """Deletes a bucket with all that is in it, for good. Needs the role `admin`."""
        return self._run(self._native.delete_bucket(name))

    def buckets(self):
        """The buckets of the cluster."""
        return self._run(self._native.buckets())

    def statistics(self):
        """What this client has done so far, by names."""
        return self._native.statistics()

    def close(self):
        """Ends the client: later calls raise `Closed`, calls under way go on to their end."""
        return self._run(self._native.close())


class ScanCalls:
    """A scan. It is no snapshot: a key that is there throughout comes exactly once, one that is
    written or deleted meanwhile may come or not."""

    __slots__ = ("_after", "_is_over", "_native", "_ready", "_seen", "_show")

    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(self, native: Any, cursor: str | None, show: Any) -> None:
        self._native = native
        self._show = show
        # Entries of pages that are here, each with where its page began.
        self._ready: deque[tuple[str | None, Any]] = deque()
        self._after = cursor
        self._seen = 0
        self._is_over = False

    @property
    def cursor(self):
        """Where a later scan of this bucket goes on; what this one has not given of its present
        page comes again there. `None`: at the beginning, or everything was given: see `is_over`."""
        return self._ready[0][0] if self._ready else self._after

    @property
    def is_over(self):
        """Whether everything was given."""
        return self._is_over and not self._ready

    def _next(self):
        return self._show(self._ready.popleft()[1])

    def _take(self, number: int, entries: Any, cursor: str | None) -> None:
        """Takes a page, unless another caller who asked for it has taken it before."""
        if number != self._seen + 1:
            return
        self._seen = number
        if entries is None:
            self._is_over = True
            return
        self._ready.extend((self._after, entry) for entry in entries)
        self._after = cursor


def _many(keys):
    """A list of keys, which a single key is not, although Python can go through it."""
    if isinstance(keys, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"keys are several, and not a {type(keys).__name__}: give a list of one")
    return list(keys)


def _key(entry):
    return entry.key


def _whole(entry):
    return entry


def _get_merged(native, key, resolve, level, timeout):
    merging = yield native.begin_merge(key, level, timeout)
    values = merging.unmerged()
    merged = None
    if values is not None:
        merged = yield resolve(values)
    return merging.finish(merged)


def _update(native, key, change, ttl, expires_at, timeout):
    update = yield native.begin_update(key, ttl, expires_at, timeout)
    while True:
        entry = yield update.value()
        value = yield change(None if entry is None else entry.value)
        if value is None:
            raise TypeError("the change gave None: give the new value, or annulet.DELETE for none")
        is_done, written = yield update.commit(None if value is DELETE else value)
        if is_done:
            return written
