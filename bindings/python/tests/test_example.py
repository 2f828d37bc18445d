"""The example does what it says, by real HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "python" / "sessions.py"


def test_sessions_of_a_web_app_outlive_a_server_of_it(profile: str) -> None:
    jar = CookieJar()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar)
    )

    def ask(base: str, path: str, form: bytes | None = None) -> tuple[int, str]:
        try:
            with opener.open(base + path, form, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    with served(profile) as first, ended(first):
        base = address(first)
        assert ask(base, "/") == (401, "who are you?")
        assert ask(base, "/login", b"name=Ada") == (200, "welcome")
        assert ask(base, "/") == (200, "hello Ada")
        assert ask(base, "/nowhere", b"") == (404, "there is no such page")
        stop(first)
    with served(profile) as second, ended(second):
        base = address(second)
        for cookie in jar:
            cookie.port = None
        assert ask(base, "/") == (200, "hello Ada")
        assert ask(base, "/logout", b"") == (200, "goodbye")
        assert ask(base, "/") == (401, "who are you?")
        stop(second)


def served(profile: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLE), "--port", "0", "--bucket", "plain"],
        env={**os.environ, "ANNULET_PROFILE": profile},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Nobody waits for a process that a test has not stopped."""
    try:
        yield
    finally:
        process.kill()


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on "), line
    return line.removeprefix("listening on ").strip()


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert said == "goodbye\n"
    assert process.returncode == 0
