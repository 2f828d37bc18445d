"""Tests run against the clusters that `annulet-scene` starts: `make test-python`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def scene() -> dict[str, Any]:
    """Where clusters, profiles and cases are."""
    found: dict[str, Any] = json.loads(Path(os.environ["ANNULET_SCENE"]).read_text())
    return found


@pytest.fixture(scope="session")
def profile(scene: dict[str, Any]) -> str:
    """The profile of the cluster of three servers."""
    main: str = scene["profiles"]["main"]
    return main
