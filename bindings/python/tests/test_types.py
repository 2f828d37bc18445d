"""The types that users see are those of what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


def run(*words: str, cwd: Path = PACKAGE) -> None:
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stubs_and_the_tests_are_strictly_typed() -> None:
    run("-m", "mypy")


def test_the_stubs_are_those_of_what_is_there(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    # What the native module has for the package alone, and what Python adds to classes.
    allowed.write_text(
        "annulet\\._annulet\\..*\nannulet\\._(calls|async)(\\..*)?\n.*\\.__(slots|hash|doc)__\n"
    )
    run(
        "-m",
        "mypy.stubtest",
        "annulet",
        "--allowlist",
        str(allowed),
        "--ignore-unused-allowlist",
        cwd=tmp_path,
    )


def test_the_types_of_the_blocking_client_are_made_from_the_others() -> None:
    made = subprocess.run(
        [sys.executable, str(PACKAGE / "tools" / "sync_stub.py")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    stub = PACKAGE / "python" / "annulet" / "sync.pyi"
    assert stub.read_text() == made, "run tools/sync_stub.py --write"
