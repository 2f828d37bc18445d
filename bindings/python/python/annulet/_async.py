"""The client for `asyncio`."""

from __future__ import annotations

from inspect import isawaitable

from . import _annulet
from ._calls import BucketCalls, ClientCalls, ScanCalls, SessionCalls

_Operation = _annulet.Operation


async def _run(operation):
    future = operation.begin()
    try:
        return await future
    except BaseException:
        # Of a task that was cancelled; an operation that is over does not mind.
        operation.cancel()
        raise


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
            if not self._take(await _run(self._native.next_page())):
                raise StopAsyncIteration
        return self._show(self._ready.popleft())


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


class Connecting:
    """A client that is being connected: await it, or use it in `async with`."""

    __slots__ = ("_client", "_operation")

    def __init__(self, operation):
        self._operation = operation
        self._client = None

    async def _open(self):
        return Client(await _run(self._operation))

    def __await__(self):
        return self._open().__await__()

    async def __aenter__(self):
        self._client = await self._open()
        return self._client

    async def __aexit__(self, *_raised):
        await self._client.close()


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
    names, else `.annulet/profile.toml` here or in a parent folder, else the user's."""
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
