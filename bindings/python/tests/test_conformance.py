"""What every language's client does alike, case by case."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annulet
import annulet.sync
import pytest
from conformance import Runner

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[3] / "conformance" / "cases.json").read_text()
)["cases"]
NUMBERED = pytest.mark.parametrize("number", range(len(CASES)), ids=[c["name"] for c in CASES])

Run = tuple[Any, Runner]


def running(scene: dict[str, Any], name: str, module: Any) -> Iterator[Run]:
    # `asyncio.Runner` came with Python 3.11.
    loop = asyncio.new_event_loop()
    runner = Runner(scene, name, module)
    yield loop, runner
    loop.run_until_complete(runner.close())
    loop.close()


@pytest.fixture(scope="module")
def for_asyncio(scene: dict[str, Any]) -> Iterator[Run]:
    yield from running(scene, "python", annulet)


@pytest.fixture(scope="module")
def blocking(scene: dict[str, Any]) -> Iterator[Run]:
    # The server that the last case ends has been ended by the other client.
    spare = {
        kind: {**scene[kind], "doomed": scene[kind]["spare"]} for kind in ("profiles", "servers")
    }
    yield from running({**scene, **spare}, "python-sync", annulet.sync)


@NUMBERED
def test_async(for_asyncio: Run, number: int) -> None:
    loop, runner = for_asyncio
    loop.run_until_complete(runner.run_case(number, CASES[number]))


@NUMBERED
def test_sync(blocking: Run, number: int) -> None:
    loop, runner = blocking
    loop.run_until_complete(runner.run_case(number, CASES[number]))


def test_the_table_has_every_kind_that_a_cluster_can_be_brought_to() -> None:
    text = json.dumps(CASES)
    # Too much to do, and faults of our own, are not had for the asking.
    kinds = {kind.__name__ for kind in annulet.Error.__subclasses__()} - {"Overloaded", "Internal"}
    assert len(kinds) == 6
    assert not [kind for kind in kinds if f'"kind": "{kind}"' not in text]
