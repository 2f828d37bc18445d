"""Measures the clients of Python for `make bench-bindings`: one line of JSON a cell.

Each cell is a closed loop of so many callers for some seconds, after a warm-up of a fifth of it.
`memory` is what the process holds while so many operations are done (`make bench-memory`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

VALUE = b"x" * 100


def key(number: int) -> str:
    return f"bench/{number % 10_000}"


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def tell(cell: str, calls: int, seconds: float, cpu: float) -> None:
    each = {"cell": cell, "rate": calls / seconds, "cpu_us": cpu / calls * 1e6}
    print(json.dumps(each), flush=True)


async def loop(
    cell: str, callers: int, seconds: float, call: Callable[[int], Awaitable[Any]]
) -> None:
    for limit in (seconds / 5, seconds):
        calls = 0
        began, cpu = time.perf_counter(), cpu_seconds()
        until = began + limit

        async def caller(first: int, until: float = until) -> None:
            nonlocal calls
            number = first
            while time.perf_counter() < until:
                await call(number)
                number += callers
                calls += 1

        await asyncio.gather(*(caller(first) for first in range(callers)))
        measured = (calls, time.perf_counter() - began, cpu_seconds() - cpu)
    tell(cell, *measured)


def loop_sync(cell: str, seconds: float, call: Callable[[int], Any]) -> None:
    for limit in (seconds / 5, seconds):
        calls = 0
        began, cpu = time.perf_counter(), cpu_seconds()
        while time.perf_counter() < began + limit:
            call(calls)
            calls += 1
        measured = (calls, time.perf_counter() - began, cpu_seconds() - cpu)
    tell(cell, *measured)


async def annulet_async(options: argparse.Namespace) -> None:
    import annulet

    async with annulet.connect(profile=options.profile) as client:
        bucket = client.bucket("async")
        await bucket.multi_put((key(number), VALUE) for number in range(10_000))
        seconds = options.seconds
        await loop("annulet get", 256, seconds, lambda n: bucket.get(key(n), level="one"))
        await loop("annulet put", 256, seconds, lambda n: bucket.put(key(n), VALUE))


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


async def annulet_memory(options: argparse.Namespace) -> None:
    import annulet

    async with annulet.connect(profile=options.profile) as client:
        bucket = client.bucket("async")

        async def caller(first: int, part: int) -> None:
            for number in range(first, options.operations // 20, 256):
                await bucket.put(key(number), VALUE)
                await bucket.get(key(number + part))

        resident = []
        # Ten parts, of which the first warms up.
        for part in range(10):
            await asyncio.gather(*(caller(first, part) for first in range(256)))
            resident.append(resident_megabytes())
        print(json.dumps({"cell": "memory", "resident_mb": resident}), flush=True)


async def glide_async(options: argparse.Namespace) -> None:
    from glide import (
        AdvancedGlideClientConfiguration,
        GlideClient,
        GlideClientConfiguration,
        NodeAddress,
        TlsAdvancedConfiguration,
    )

    configuration = GlideClientConfiguration(
        [NodeAddress("127.0.0.1", options.redis)],
        use_tls=True,
        request_timeout=10_000,
        advanced_config=AdvancedGlideClientConfiguration(
            tls_config=TlsAdvancedConfiguration(root_pem_cacerts=options.ca_pem)
        ),
    )
    client = await GlideClient.create(configuration)
    for number in range(10_000):
        await client.set(key(number), VALUE)
    await loop("glide get", 256, options.seconds, lambda n: client.get(key(n)))
    await loop("glide put", 256, options.seconds, lambda n: client.set(key(n), VALUE))
    await client.close()


def annulet_sync(options: argparse.Namespace) -> None:
    import annulet.sync

    with annulet.sync.connect(profile=options.profile) as client:
        bucket = client.bucket("async")
        loop_sync("annulet sync get", options.seconds, lambda n: bucket.get(key(n), level="one"))


def redis_sync(options: argparse.Namespace) -> None:
    import redis

    client = redis.Redis("127.0.0.1", options.redis, ssl=True, ssl_ca_certs=options.ca)
    loop_sync("redis-py get", options.seconds, lambda n: client.get(key(n)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clients", nargs="+")
    parser.add_argument("--profile")
    parser.add_argument("--redis", type=int)
    parser.add_argument("--ca", default="/dev/null")
    parser.add_argument("--operations", type=int, default=2_000_000)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    options.ca_pem = Path(options.ca).read_bytes()
    for client in options.clients:
        run = {
            "annulet": lambda: asyncio.run(annulet_async(options)),
            "memory": lambda: asyncio.run(annulet_memory(options)),
            "glide": lambda: asyncio.run(glide_async(options)),
            "annulet-sync": lambda: annulet_sync(options),
            "redis-py": lambda: redis_sync(options),
        }.get(client)
        if run is None:
            sys.exit(f"no client {client}")
        run()


if __name__ == "__main__":
    main()
