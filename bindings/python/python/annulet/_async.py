"""The client for `asyncio`."""

from __future__ import annotations

from collections.abc import Coroutine
from inspect import isawaitable

from . import _annulet
from ._calls import BucketCalls, ClientCalls, ScanCalls, SessionCalls

_Operation = _annulet.Operation


async def _run(operation):
    future = operation.begin()
    try:
        return await future
    except BaseException:
        # Of a task that was cancelled, or a coroutine that was closed, whose future nobody looks
        # at any more. An operation that is over does not mind.
        future.cancel()
        operation.cancel()
        raise
    finally:
        # An error knows this frame by its trace: they would keep each other.
        del future


async def _drive(steps):
    try:
        step = next(steps)
        while True:
            if type(step) is _Operation:
                step = await _run(step)
            elif isawaitable(step):
                step = await step
            step = steps.send(step)
    except StopIteration as over:
        return over.value


class Scan(ScanCalls):
    __slots__ = ()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            self._take(*await _run(self._native.next_page(self._seen)))
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

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_raised):
        await self.close()


class Connecting(Coroutine):
    """A client that is being connected: await it, or use it in `async with`."""

    __slots__ = ("_client", "_opening")

    def __init__(self, operation):
        self._opening = _open(operation)
        self._client = None

    def send(self, value):
        return self._opening.send(value)

    def throw(self, *raised):
        return self._opening.throw(*raised)

    def close(self):
        return self._opening.close()

    def __await__(self):
        return self._opening.__await__()

    async def __aenter__(self):
        self._client = await self._opening
        return self._client

    async def __aexit__(self, *_raised):
        await self._client.close()


async def _open(operation):
    return Client(await _run(operation))


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
    return Connecting(
        _annulet.connect(
            profile,
            timeout,
            level,
            zone,
            region,
            connections_max,
            idle_after,
            check_one_in,
        )
    )
