"""Servers of the scene, stopped for a while."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def send(process: int, name: str) -> None:
    """Sends a signal; a process that is to stop has stopped when this returns.

    The system stops its threads one after the other, each where it is in a moment.
    """
    os.kill(process, getattr(signal, f"SIG{name}"))
    while name == "STOP" and not all(map(has_stopped, Path(f"/proc/{process}/task").iterdir())):
        pass


def has_stopped(thread: Path) -> bool:
    # Behind the name, which may have anything in it.
    state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"
