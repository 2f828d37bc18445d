"""Forks, signals, and the end of the interpreter: each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

from servers import send

# Far above what a busy machine needs, so that only what hangs takes so long.
PATIENCE = 60


def run(script: str, profile: str) -> str:
    """Runs a script to its end and gives what it printed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(script)],
        env={**os.environ, "ANNULET_PROFILE": profile},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def test_a_forked_child_is_told_so_and_connects_anew(profile: str) -> None:
    said = run(
        """
        import os, threading, warnings
        import annulet.sync as annulet

        warnings.simplefilter("ignore", DeprecationWarning)
        client = annulet.connect()
        bucket = client.bucket("plain")
        bucket.put("forked", b"v")
        stop = False

        def work():
            while not stop:
                bucket.get("forked")

        # Locks of the core are held at any moment.
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(20):
            child = os.fork()
            if child == 0:
                for call in (
                    lambda: bucket.get("forked"),
                    lambda: client.bucket("plain"),
                    lambda: client.session(),
                    lambda: client.statistics(),
                ):
                    try:
                        call()
                        os._exit(3)
                    except annulet.Closed as error:
                        assert "fork" in str(error), error
                client.close()
                del bucket, client
                with annulet.connect() as again:
                    assert again.bucket("plain").get("forked").value == b"v"
                os._exit(7)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 7, status
        stop = True
        for thread in threads:
            thread.join()
        assert bucket.get("forked").value == b"v"
        print("done")
        """,
        profile,
    )
    assert said == "done\n"


def test_children_that_end_as_usual_and_event_loops_survive_a_fork(profile: str) -> None:
    said = run(
        """
        import asyncio, multiprocessing, warnings
        import annulet

        warnings.simplefilter("ignore", DeprecationWarning)

        async def connected():
            return await annulet.connect()

        async def one(client):
            return (await client.bucket("plain").get("k", level="one")) is None

        async def child():
            try:
                await bucket.get("k")
            except annulet.Closed:
                pass
            async with annulet.connect() as again:
                await again.bucket("plain").put("from a child", b"v")

        def in_child():
            asyncio.run(child())

        client = asyncio.run(connected())
        bucket = client.bucket("plain")
        asyncio.run(one(client))
        processes = [multiprocessing.get_context("fork").Process(target=in_child) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)
            assert process.exitcode == 0, process.exitcode
        asyncio.run(one(client))
        print("done")
        """,
        profile,
    )
    assert said == "done\n"


def test_a_loop_that_goes_on_in_a_forked_child_is_told_so(profile: str) -> None:
    said = run(
        """
        import asyncio, os, warnings
        import annulet

        warnings.simplefilter("ignore", DeprecationWarning)
        loop = asyncio.new_event_loop()
        client = loop.run_until_complete(annulet.connect())
        bucket = client.bucket("plain")

        async def child():
            try:
                async with annulet.connect() as again:
                    await again.bucket("plain").get("k")
            except annulet.Closed as error:
                assert "event loop" in str(error), error
                return 7
            return 3

        children = []
        for _ in range(4):
            loop.run_until_complete(bucket.put("k", b"v"))
            early = bucket.get("k")
            pid = os.fork()
            if pid == 0:
                # Made before the fork, begun after it.
                try:
                    asyncio.run(early)
                    os._exit(4)
                except annulet.Closed:
                    pass
                os._exit(loop.run_until_complete(child()))
            children.append(pid)
            loop.run_until_complete(early)
        for pid in children:
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 7, status
        for _ in range(100):
            loop.run_until_complete(bucket.get("k"))
        print("done")
        """,
        profile,
    )
    assert said == "done\n"


def test_a_handler_of_a_signal_may_make_calls_itself(scene: dict[str, Any]) -> None:
    process = scene["servers"]["lonely"]
    said = run(
        f"""
        import os, signal
        import annulet.sync

        other = annulet.sync.connect(profile={scene["profiles"]["main"]!r})
        with annulet.sync.connect() as client:
            bucket = client.bucket("single")
            bucket.put("handled", b"v")

            def handle(*_):
                other.bucket("plain").put("from a handler", b"v")
                print("handled", flush=True)
                os.kill({process}, signal.SIGCONT)

            signal.signal(signal.SIGALRM, handle)
            os.kill({process}, signal.SIGSTOP)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            print(bucket.get("handled", timeout=30).value)
        other.close()
        """,
        scene["profiles"]["lonely"],
    )
    assert said == "handled\nb'v'\n"


def test_the_interpreter_ends_whatever_is_under_way(scene: dict[str, Any]) -> None:
    began = time.monotonic()
    process = scene["servers"]["lonely"]
    send(process, "STOP")
    try:
        # A client that is dropped, one that is kept, and calls whose server does not answer.
        said = run(
            f"""
            import asyncio, os, signal, threading
            import annulet, annulet.sync

            os.kill({process}, signal.SIGCONT)
            kept = annulet.sync.connect()
            kept.bucket("single").put("k", b"v")
            annulet.sync.connect()
            os.kill({process}, signal.SIGSTOP)

            async def main():
                client = await annulet.connect()

            def wait():
                kept.bucket("single").get("k", timeout=300)

            threading.Thread(target=wait, daemon=True).start()

            async def under_way():
                tasks = [asyncio.ensure_future(ask()) for _ in range(10)]
                await asyncio.sleep(0.2)
                print("done", flush=True)

            async def ask():
                operation = kept.bucket("single")._native.get("k", None, 300, False)
                await operation.begin()

            asyncio.run(under_way())
            """,
            scene["profiles"]["lonely"],
        )
    finally:
        send(process, "CONT")
    assert said == "done\n"
    assert time.monotonic() - began < PATIENCE / 2


def test_a_call_that_blocks_heeds_an_interrupt(scene: dict[str, Any]) -> None:
    script = """
        import annulet.sync, signal, sys
        # Whoever runs the tests in the background may have it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with annulet.sync.connect() as client:
            bucket = client.bucket("single")
            bucket.put("k", b"v")
            print("ready", flush=True)
            sys.stdin.readline()
            try:
                bucket.get("k", timeout=300)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "ANNULET_PROFILE": scene["profiles"]["lonely"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            interrupt(child, scene["servers"]["lonely"])
        finally:
            child.kill()


def interrupt(child: subprocess.Popen[str], process: int) -> None:
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    send(process, "STOP")
    try:
        child.stdin.write("\n")
        child.stdin.flush()
        # An interrupt that comes before the call waits is an interrupt, too, but of the script.
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        said, _ = child.communicate(timeout=PATIENCE)
    finally:
        send(process, "CONT")
    assert said == "interrupted\n"
    assert child.returncode == 0
