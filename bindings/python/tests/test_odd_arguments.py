"""Wrong types and odd values: an error of Python's or of Annulet's, and nothing else."""

from __future__ import annotations

import array
import asyncio
import math
import random
from datetime import datetime, timedelta, timezone
from typing import Any

import annulet
import annulet.sync
import pytest

# Each takes any object where it expects a certain one.
Odd: Any = object()


@pytest.fixture(scope="module")
def client(profile: str) -> Any:
    with annulet.sync.connect(profile=profile) as client:
        yield client


def test_wrong_types_are_type_errors_that_say_what_is_expected(client: Any) -> None:
    bucket = client.bucket("plain")
    with pytest.raises(TypeError, match="a key is str or bytes-like, not int"):
        bucket.get(7)
    with pytest.raises(TypeError, match="a value is bytes-like, not str: encode it first"):
        bucket.put("k", "text")
    with pytest.raises(TypeError, match="a value is bytes-like, not NoneType"):
        bucket.put("k", None)
    with pytest.raises(
        TypeError, match="a duration is a number of seconds or a timedelta, not str"
    ):
        bucket.put("k", b"v", ttl="soon")
    with pytest.raises(TypeError, match="a moment is a number of seconds since 1970 or a datetime"):
        bucket.put("k", b"v", expires_at="tomorrow")
    with pytest.raises(TypeError):
        bucket.get("k", level=1)
    with pytest.raises(TypeError):
        bucket.get("k", "quorum")
    with pytest.raises(TypeError):
        client.bucket(7)
    with pytest.raises(TypeError, match="give a list of one"):
        bucket.multi_get("key")
    with pytest.raises(ValueError):
        bucket.multi_put([("k",)])
    with pytest.raises(UnicodeEncodeError):
        bucket.get("\ud800")


def test_numbers_out_of_range_are_refused_with_a_sentence(client: Any, profile: str) -> None:
    for most in (0, -1, 2**40, 2**200, -(2**200)):
        with pytest.raises(annulet.InvalidInput, match="most connections"):
            annulet.sync.connect(profile=profile, connections_max=most)
    for replicas in (0, -1, 300, 2**70):
        with pytest.raises(annulet.InvalidInput, match="replicas"):
            client.create_bucket("odd", replicas=replicas)
    with pytest.raises(annulet.InvalidInput, match="entries of a page"):
        client.bucket("plain").scan(page_entries=-1)
    with pytest.raises(OverflowError):
        client.bucket("plain").get("k", timeout=10**400)
    with pytest.raises((OverflowError, ValueError, annulet.InvalidInput)):
        client.bucket("plain").put("k", b"v", expires_at=datetime.min)


def test_everything_like_bytes_is_taken_and_times_of_every_kind(client: Any) -> None:
    bucket = client.bucket("plain")
    long = bytes(range(256)) * 400
    for value in (b"v", bytearray(b"v"), memoryview(b"v"), memoryview(b"xvx")[1:2]):
        bucket.put(bytearray(b"like bytes"), value)
        assert bucket.get(memoryview(b"like bytes")).value == b"v"
    bucket.put("long", long)
    assert bucket.get("long").value == long
    bucket.put("strided", memoryview(b"v-w-")[::2])
    assert bucket.get("strided").value == b"vw"
    bucket.put("array", array.array("H", [1, 2]))
    assert len(bucket.get("array").value) == 4
    written = bucket.multi_put([["as JSON gives", b"pairs"]])
    assert isinstance(written[0], annulet.Written)
    bucket.put("timed", b"v", ttl=timedelta(hours=1))
    assert bucket.get("timed", timeout=timedelta(seconds=5)).expires_at > 1e9
    later = datetime(2100, 1, 1, tzinfo=timezone.utc)
    bucket.put("timed", b"v", expires_at=later)
    assert bucket.get("timed").expires_at == later.timestamp()
    bucket.put("timed", b"v", ttl=math.inf)
    assert bucket.get("timed").expires_at is None
    # A value that is changed while it is on its way.
    changing = bytearray(b"a" * 100_000)
    bucket.put("changing", changing)
    changing[:] = b"b" * 100_000
    assert bucket.get("changing").value == b"a" * 100_000


ODD = [
    None, True, 0, 1, -1, 2**31, 2**63, 2**64, 2**200, 0.5, -0.5, math.nan, math.inf, -math.inf,
    1e308, "", "k", "ü", "\ud800", "x" * 5_000, "one", "r=9,w=9", b"", b"k", b"\x00\xff",
    b"x" * 5_000, bytearray(b"k"), memoryview(b"k"), memoryview(b"abcd").cast("I"), [], ["k"],
    [None], [("k", b"v")], [("k",)], {}, {"k": b"v"}, (), set(), object(), int, len, Exception(),
    timedelta(1), timedelta.max, datetime(2100, 1, 1), datetime.min, iter("k"), range(3), 1j,
]  # fmt: skip

OPTIONS = (
    "level", "timeout", "stale", "ttl", "expires_at", "context", "page_entries", "cursor", "mode",
    "replicas", "durability", "read_level", "write_level", "merge", "nothing",
)  # fmt: skip


def test_odd_arguments_at_random_harm_nobody(client: Any) -> None:
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    bucket = client.bucket("plain")
    calls = [
        getattr(of, name)
        for of in (
            bucket,
            client.bucket("strong"),
            client.bucket("carts"),
            client,
            client.session(),
        )
        for name in dir(of)
        if not name.startswith("_")
        and name not in ("close", "name", "create_bucket", "delete_bucket")
    ]
    assert len(calls) > 50
    refused = done = 0
    for _ in range(4_000):
        call = draw.choice(calls)
        arguments = [draw.choice(ODD) for _ in range(draw.randrange(4))]
        options = {draw.choice(OPTIONS): draw.choice(ODD) for _ in range(draw.randrange(3))}
        try:
            call(*arguments, **options)
            done += 1
        except (annulet.Error, TypeError, ValueError, OverflowError, AttributeError):
            refused += 1
        except BufferError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {call} {arguments} {options}") from error
    assert refused > 1_000 and done > 10
    bucket.put("still", b"there")
    assert bucket.get("still").value == b"there"


def test_an_operation_runs_once(profile: str) -> None:
    async def main() -> None:
        connecting = annulet.connect(profile=profile)
        async with connecting as client:
            await client.bucket("plain").put("once", b"v")
        with pytest.raises(RuntimeError):
            await connecting

    asyncio.run(main())
