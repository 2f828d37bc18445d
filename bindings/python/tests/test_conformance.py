"""What every language's client does alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import conformance


def test_the_async_client_does_what_every_language_does(scene: dict[str, Any]) -> None:
    cases = json.loads(Path(scene["cases"]).read_text())["cases"]
    # The last case ends a server: it is the other client's.
    failed = conformance.run_async({**scene, "cases": cases[:-1]}, "python")
    assert not failed, "\n".join(failed)


def test_the_sync_client_does_what_every_language_does(scene: dict[str, Any]) -> None:
    cases = json.loads(Path(scene["cases"]).read_text())["cases"]
    failed = conformance.run_sync({**scene, "cases": cases}, "python-sync")
    assert not failed, "\n".join(failed)
