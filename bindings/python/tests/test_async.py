"""What is particular to `asyncio`: cancelling, loops, threads, many calls at once."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import annulet
import pytest
import uvloop

# Far below the timeout of the calls, far above what a busy machine delays.
SOON = 5.0


@contextmanager
def stopped(scene: dict[str, Any]) -> Iterator[None]:
    """The server that is by itself, while it does not answer."""
    process = scene["servers"]["lonely"]
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_cancelled_task_stops_its_call_and_leaves_the_client_usable(
    scene: dict[str, Any],
) -> None:
    async def main() -> None:
        async with annulet.connect(profile=scene["profiles"]["lonely"]) as client:
            bucket = client.bucket("single")
            await bucket.put("cancelled", b"v")
            with stopped(scene):
                began = time.monotonic()
                task = asyncio.create_task(bucket.get("cancelled", timeout=60))
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(bucket.get("cancelled", timeout=60), 0.2)
                with pytest.raises(annulet.Timeout) as timed_out:
                    await bucket.get("cancelled", timeout=0.2)
                assert isinstance(timed_out.value, TimeoutError)
                assert timed_out.value.retryable
                # What `cancel` does below: the call is over at once, and not after its minute.
                operation = bucket._native.get("cancelled", None, 60, False)  # type: ignore[attr-defined]
                future = operation.begin()
                operation.cancel()
                with pytest.raises(annulet.Closed, match="given up"):
                    await future
                assert time.monotonic() - began < SOON
            entry = await bucket.get("cancelled", timeout=10)
            assert entry is not None and entry.value == b"v"

    asyncio.run(main())


def test_many_calls_at_once_each_get_their_own_result(profile: str) -> None:
    async def main() -> None:
        async with annulet.connect(profile=profile, timeout=30) as client:
            bucket = client.bucket("plain")
            keys = [f"many/{number}" for number in range(2_000)]
            await asyncio.gather(*(bucket.put(key, key.encode()) for key in keys))
            entries = await asyncio.gather(*(bucket.get(key) for key in keys))
            for key, entry in zip(keys, entries, strict=True):
                assert entry is not None and entry.value == key.encode()

    asyncio.run(main())


def test_one_client_serves_loops_of_several_threads_and_loops_that_follow(profile: str) -> None:
    client = asyncio.run(opened(profile))
    bucket = client.bucket("plain")
    failed = []

    async def work(number: int) -> None:
        for turn in range(50):
            key = f"threads/{number}/{turn}"
            await bucket.put(key, b"v")
            entry = await bucket.get(key)
            assert entry is not None and entry.value == b"v"

    def thread(number: int) -> None:
        try:
            asyncio.run(work(number))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert not failed

    async def abandon() -> None:
        # Its loop is closed before there is a result.
        task = asyncio.ensure_future(bucket.get("threads/0/0"))
        await asyncio.sleep(0)
        task.cancel()

    for _ in range(20):
        asyncio.run(abandon())
    asyncio.run(work(9))
    asyncio.run(client.close())


async def opened(profile: str) -> annulet.Client:
    return await annulet.connect(profile=profile)


def test_uvloop_drives_the_client(profile: str) -> None:
    async def main() -> None:
        async with annulet.connect(profile=profile) as client:
            bucket = client.bucket("plain")
            await asyncio.gather(*(bucket.put(f"uv/{n}", b"v") for n in range(500)))
            found = [key async for key in bucket.scan() if key.startswith(b"uv/")]
            assert len(found) == 500
            with pytest.raises(annulet.InvalidInput):
                await client.bucket("nowhere").get("k")
            task = asyncio.create_task(bucket.get("uv/1", timeout=60))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    uvloop.run(main())


def test_changes_and_merges_may_be_awaited(profile: str) -> None:
    async def main() -> None:
        async with annulet.connect(profile=profile) as client:
            strong = client.bucket("strong")

            async def add(value: bytes | None) -> bytes:
                await asyncio.sleep(0)
                return str(int(value or b"0") + 1).encode()

            await asyncio.gather(*(strong.update("awaited", add, timeout=60) for _ in range(20)))
            entry = await strong.get("awaited")
            assert entry is not None and entry.value == b"20"

            def fail(value: bytes | None) -> bytes:
                raise RuntimeError("not today")

            with pytest.raises(RuntimeError, match="not today"):
                await strong.update("awaited", fail)

            carts = client.bucket("carts")
            await carts.put("awaited", b"a")
            await carts.put("awaited", b"b")

            async def join(values: list[bytes]) -> bytes:
                await asyncio.sleep(0)
                return b"+".join(sorted(values))

            merged = await carts.get_merged("awaited", join)
            assert merged is not None and merged.value == b"a+b"

    asyncio.run(main())


def test_errors_keep_their_parts_and_go_to_other_processes(profile: str) -> None:
    async def main() -> None:
        async with annulet.connect(profile=profile) as client:
            with pytest.raises(annulet.InvalidInput) as raised:
                await client.bucket("plain").put("", b"v")
        error = raised.value
        assert isinstance(error, ValueError)
        assert (error.kind, error.outcome, error.retryable) == (
            "InvalidInput",
            "not_applied",
            False,
        )
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is annulet.InvalidInput
        assert (again.message, again.outcome, str(again)) == (
            error.message,
            error.outcome,
            str(error),
        )

    asyncio.run(main())


def test_values_show_what_they_are(profile: str) -> None:
    async def main() -> None:
        async with annulet.connect(profile=profile) as client:
            bucket = client.bucket("plain")
            written = await bucket.put("shown", b"x" * 1_000)
            assert "superseded=False" in repr(written)
            entry = await bucket.get("shown")
            assert "(1000 bytes)" in repr(entry) and len(repr(entry)) < 300
            assert repr(bucket) == "<annulet bucket 'plain'>"
            policies = await client.buckets()
            assert any("name='plain'" in repr(policy) for policy in policies)

    asyncio.run(main())
