"""What is particular to `asyncio`: cancelling, loops, threads, many calls at once."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import annulet
import pytest
import uvloop
from annulet import _async
from servers import send

# Far below the timeout of the calls, far above what a busy machine delays.
SOON = 5.0


@contextmanager
def stopped(scene: dict[str, Any]) -> Iterator[None]:
    """The server that is by itself, while it does not answer."""
    process = scene["servers"]["lonely"]
    send(process, "STOP")
    try:
        yield
    finally:
        send(process, "CONT")


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
                assert time.monotonic() - began < SOON
            entry = await bucket.get("cancelled", timeout=10)
            assert entry is not None and entry.value == b"v"

    asyncio.run(main())


class Recorded:
    """An operation that never ends, and tells whether it was given up."""

    def __init__(self) -> None:
        self.given_up = False
        self.future: asyncio.Future[Any] | None = None

    def begin(self) -> asyncio.Future[Any]:
        self.future = asyncio.get_running_loop().create_future()
        return self.future

    def cancel(self) -> None:
        self.given_up = True


def test_however_a_call_is_left_its_operation_is_given_up() -> None:
    run: Any = _async._run

    async def main() -> None:
        cancelled, timed, closed = Recorded(), Recorded(), Recorded()
        task = asyncio.create_task(run(cancelled))
        await asyncio.sleep(0)
        assert not cancelled.given_up
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(run(timed), 0.01)
        coroutine = run(closed)
        coroutine.send(None)
        coroutine.close()
        for operation in (cancelled, timed, closed):
            assert operation.given_up
            # Or the loop complains of a result that nobody looked at.
            assert operation.future is not None and operation.future.cancelled()

    asyncio.run(main())


def test_an_operation_that_is_given_up_is_over_at_once(scene: dict[str, Any]) -> None:
    async def main() -> None:
        async with annulet.connect(profile=scene["profiles"]["lonely"]) as client:
            bucket = client.bucket("single")
            await bucket.put("given up", b"v")
            with stopped(scene):
                operation = native(bucket).get("given up", None, 60, False)
                future = operation.begin()
                operation.cancel()
                with pytest.raises(annulet.Closed, match="given up"):
                    await future

    asyncio.run(main())


def native(of: Any) -> Any:
    return of._native


def test_a_call_leaves_no_cycle_behind(profile: str) -> None:
    async def main() -> None:
        async with annulet.connect(profile=profile) as client:
            bucket = client.bucket("nowhere")
            gone = None
            gc.disable()
            try:
                try:
                    await bucket.get("k")
                except annulet.InvalidInput as error:
                    gone = weakref.ref(error)
                # The loop has the future in its hands until this turn is over.
                await asyncio.sleep(0)
                assert gone is not None and gone() is None
            finally:
                gc.enable()

    asyncio.run(main())


def test_a_client_is_a_coroutine_until_it_is_connected(profile: str) -> None:
    client = asyncio.run(annulet.connect(profile=profile))

    async def main() -> None:
        other = await asyncio.create_task(annulet.connect(profile=profile))
        assert await other.bucket("plain").exists("nothing") is False
        await asyncio.gather(client.close(), other.close())

    asyncio.run(main())


def test_loops_that_come_and_go_leave_nothing_behind(profile: str) -> None:
    client = asyncio.run(opened(profile))
    bucket = client.bucket("plain")
    failed = []

    async def once() -> None:
        await bucket.get("coming and going")
        # Under way when the loop is closed.
        asyncio.ensure_future(bucket.get("coming and going")).cancel()

    def thread(turns: int) -> None:
        try:
            for _ in range(turns):
                asyncio.run(once())
        except BaseException as error:
            failed.append(error)

    def threads(turns: int) -> None:
        all_of_them = [threading.Thread(target=thread, args=(turns,)) for _ in range(4)]
        for one in all_of_them:
            one.start()
        for one in all_of_them:
            one.join(60)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads(5)
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        threads(40)
        gc.collect()
    finally:
        sys.setswitchinterval(interval)
    assert not failed
    assert len(os.listdir("/proc/self/fd")) <= before + 8
    asyncio.run(client.close())


def test_a_page_of_a_scan_that_was_on_its_way_is_given_again(profile: str) -> None:
    async def main() -> None:
        async with annulet.connect(profile=profile) as client:
            bucket = client.bucket("plain")
            await bucket.multi_put({f"page/{number}": b"v" for number in range(50)})
            wanted = [key async for key in bucket.scan()]
            scan = bucket.scan(page_entries=7)
            # What a task does that is cancelled between a page and its turn.
            lost = await native(scan).next_page(0).begin()
            assert lost[0] == 1
            found = [await scan.__anext__()]
            assert found == [lost[1][0].key]
            # Two consumers ask for the same page, and share what is in it.
            both = await asyncio.gather(*(take(scan) for _ in range(2)))
            found += both[0] + both[1]
            assert sorted(found) == sorted(wanted)
            assert scan.is_over and scan.cursor is None

    async def take(scan: annulet.Scan[bytes]) -> list[bytes]:
        return [key async for key in scan]

    asyncio.run(main())


def test_what_a_change_or_a_merge_forgets_to_give_is_no_deletion(profile: str) -> None:
    async def main() -> None:
        async with annulet.connect(profile=profile) as client:
            strong, carts = client.bucket("strong"), client.bucket("carts")
            await strong.put("forgotten", b"v")
            with pytest.raises(TypeError, match="DELETE"):
                await strong.update("forgotten", lambda value: None)  # type: ignore[arg-type, return-value]
            assert await strong.exists("forgotten")
            assert await strong.update("forgotten", lambda value: annulet.DELETE) is not None
            assert not await strong.exists("forgotten")
            await carts.put("forgotten", b"a")
            await carts.put("forgotten", b"b")
            with pytest.raises(annulet.InvalidInput, match="nothing was made"):
                await carts.get_merged("forgotten", lambda values: values.sort())  # type: ignore[arg-type, return-value]

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
