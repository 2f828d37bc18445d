"""A web app that keeps its sessions in Annulet: log in, be greeted, log out.

    annulet dev &
    python examples/python/sessions.py --port 8080
    curl -c jar -d name=Ada http://127.0.0.1:8080/login
    curl -b jar http://127.0.0.1:8080/

A session lives for half an hour after its last request, on whichever server of the app that comes
to: all of them share the cluster, and any of them may be restarted.
"""

from __future__ import annotations

import argparse
import json
import secrets
import signal
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import annulet.sync as annulet

HALF_AN_HOUR = 1_800
LONGEST_FORM = 10_000


class Sessions:
    """Sessions by their ids: what is known of a visitor, as JSON."""

    def __init__(self, bucket: annulet.Bucket) -> None:
        self.bucket = bucket

    def begin(self, known: dict[str, str]) -> str:
        session = secrets.token_urlsafe(24)
        self.bucket.put(
            f"session/{session}", json.dumps(known).encode(), ttl=HALF_AN_HOUR
        )
        return session

    def find(self, session: str) -> dict[str, str] | None:
        """What is known, and the session goes on; `None` if there is none, or it is over."""
        if (
            len(session) > 64
            or self.bucket.touch(f"session/{session}", ttl=HALF_AN_HOUR) is None
        ):
            return None
        entry = self.bucket.get(f"session/{session}")
        return None if entry is None else json.loads(entry.value)

    def end(self, session: str) -> None:
        self.bucket.delete(f"session/{session}")


class App(BaseHTTPRequestHandler):
    sessions: Sessions

    def session(self) -> str:
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("session")
        return "" if cookie is None else cookie.value

    def do_GET(self) -> None:
        try:
            known = self.sessions.find(self.session()) if self.session() else None
        except annulet.Error as error:
            return self.failed(error)
        if known is None:
            return self.answer(401, "who are you?")
        return self.answer(200, f"hello {known['name']}")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isascii() or not length.isdigit():
            return self.answer(400, "how long is that?")
        if int(length[:10]) > LONGEST_FORM:
            return self.answer(413, "that is too long")
        form = parse_qs(self.rfile.read(int(length)).decode(errors="replace"))
        try:
            if self.path == "/login" and "name" in form:
                session = self.sessions.begin({"name": form["name"][0]})
                cookie = (
                    f"session={session}; HttpOnly; SameSite=Lax; Max-Age={HALF_AN_HOUR}"
                )
                return self.answer(200, "welcome", cookie)
            if self.path == "/logout":
                if self.session():
                    self.sessions.end(self.session())
                return self.answer(200, "goodbye", "session=; Max-Age=0")
        except annulet.Error as error:
            return self.failed(error)
        return self.answer(404, "there is no such page")

    def failed(self, error: annulet.Error) -> None:
        # What may be over in a moment is worth another try of the browser's.
        self.answer(503 if error.retryable else 500, error.kind)

    def answer(self, status: int, text: str, cookie: str | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if cookie is not None:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--bucket", default="default")
    options = parser.parse_args()
    # Ended alike by who types Ctrl-C and by who stops a service.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # The profile is found by itself: ANNULET_PROFILE, or `.annulet/profile.toml`.
    with annulet.connect() as client:
        App.sessions = Sessions(client.bucket(options.bucket))
        with ThreadingHTTPServer(("127.0.0.1", options.port), App) as server:
            print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print("goodbye")


if __name__ == "__main__":
    main()
