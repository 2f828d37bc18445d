"""Runs the cases that all languages have in common, by either client."""

from __future__ import annotations

import inspect
import math
from typing import Any

import annulet
import annulet.sync
from servers import send

Step = dict[str, Any]


def written(value: Any) -> bytes:
    """Bytes as a case writes them."""
    if isinstance(value, str):
        return value.encode()
    if "hex" in value:
        return bytes.fromhex(value["hex"])
    repeated: str = value["repeat"] * value["times"]
    return repeated.encode()


def seconds(ms: Any) -> float | None:
    """A duration or a moment as a case writes it."""
    if ms is None:
        return None
    return math.inf if ms == "infinite" else ms / 1000


class Runner:
    """Runs steps by one of the clients; `settle` waits for what a call gives."""

    def __init__(self, scene: dict[str, Any], run: str, module: Any) -> None:
        self.scene = scene
        self.run = run
        self.module = module
        self.clients: dict[str, Any] = {}
        self.sessions: dict[str, Any] = {}
        self.saved: dict[str, Any] = {}
        self.case = 0

    async def settle(self, given: Any) -> Any:
        return await given if inspect.isawaitable(given) else given

    async def run_case(self, number: int, case: Step) -> None:
        """Runs one case to its end, or to the first step that does not go as it says."""
        self.case, self.saved = number, {}
        if "main" not in self.clients:
            self.clients["main"] = await self.connect({"profile": "main"})
        for step in case["steps"]:
            try:
                await self.step(step)
            except Exception as error:  # Whatever it is, it is the report.
                raise AssertionError(f"{str(step)[:300]}\n  {error!r:.600}") from error

    async def close(self) -> None:
        if "main" in self.clients:
            await self.settle(self.clients["main"].close())

    async def step(self, step: Step) -> None:
        shown: Any
        try:
            shown = await self.act(step)
        except annulet.Error as error:
            if "fails" not in step:
                raise
            shown = error
        if "fails" in step:
            self.expect({"fails": step["fails"]}, shown)
        elif "gives" in step:
            self.expect(step["gives"], shown)
        elif "each" in step:
            assert len(step["each"]) == len(shown)
            for expected, one in zip(step["each"], shown, strict=True):
                self.expect(expected, one)
        for item, name in step.get("save", {}).items():
            self.saved[name] = self.item(shown, item)

    def item(self, shown: Any, name: str) -> Any:
        """A part of what is shown, in the terms of the cases."""
        if isinstance(shown, dict):
            return shown[name]
        if name in ("expires", "expires_at_ms"):
            at = shown.expires_at
            if name == "expires":
                return at is not None
            return None if at is None else at * 1000
        if name == "ttl_ms":
            return None if shown.ttl is None else shown.ttl * 1000
        if name == "says":
            return shown.message
        return getattr(shown, name)

    def expect(self, expected: Any, shown: Any) -> None:
        if not isinstance(expected, dict):
            assert shown is expected or shown == expected, f"expected {expected}, got {shown!r}"
            return
        if "fails" in expected:
            assert isinstance(shown, annulet.Error), f"expected a failure, got {shown!r}"
            expected = expected["fails"]
            assert type(shown).__name__ == expected["kind"]
            assert isinstance(shown, getattr(self.module, expected["kind"]))
        else:
            assert not isinstance(shown, annulet.Error) and shown is not None, repr(shown)
        for name, wanted in expected.items():
            found = self.item(shown, name)
            assert self.is_expected(name, wanted, found), (
                f"expected {name} {wanted!r}, got {found!r:.300}"
            )

    def is_expected(self, name: str, wanted: Any, found: Any) -> bool:
        if isinstance(wanted, str) and wanted.startswith("$"):
            return bool(self.saved[wanted[1:]] == found)
        if wanted is None:
            return found is None
        if isinstance(wanted, bool):
            return (found if isinstance(found, bool) else found is not None) == wanted
        if isinstance(wanted, list) and isinstance(found, list):
            return sorted(map(written, wanted)) == sorted(found)
        if isinstance(wanted, list):
            return any(self.is_expected(name, one, found) for one in wanted)
        if isinstance(found, bytes):
            return written(wanted) == found
        if isinstance(found, str):
            if name == "says":
                return str(wanted) in found
            return str(wanted).replace("{run}", self.run) == found
        return bool(wanted == found)

    def given(self, step: Step, name: str) -> Any:
        """What was saved under the name that the field gives, or what the field is itself."""
        value = step.get(name)
        if isinstance(value, str) and value.startswith("$"):
            return self.saved[value[1:]]
        return value

    def name(self, step: Step, field: str) -> str:
        return str(step[field]).replace("{run}", self.run)

    def key(self, step: Step, key: Any) -> bytes:
        return written(key) if step.get("exact") else self.prefix() + written(key)

    def prefix(self) -> bytes:
        return f"{self.run}/{self.case}/".encode()

    async def connect(self, step: Step) -> Any:
        names = ("level", "zone", "region", "connections_max", "check_one_in")
        options = {name: step[name] for name in names if name in step}
        for name in ("timeout", "idle_after"):
            if f"{name}_ms" in step:
                options[name] = seconds(step[f"{name}_ms"])
        profile = self.scene["profiles"][step["profile"]]
        return await self.settle(self.module.connect(profile=profile, **options))

    async def act(self, step: Step) -> Any:
        do = step["do"]
        client = self.clients.get(step.get("client", "main"))
        if do == "connect":
            self.clients[step["client"]] = await self.connect(step)
            return None
        assert client is not None
        if do in ("close", "statistics", "buckets"):
            shown = await self.settle(getattr(client, do)())
            if "lists" not in step:
                return shown
            name = self.name(step["lists"], "name")
            return next(bucket for bucket in shown if bucket.name == name)
        if do == "signal":
            send(self.scene["servers"][step["server"]], step["signal"])
            return None
        if do.startswith("session"):
            return await self.session(step, client)
        if do.endswith("_bucket"):
            names = ("mode", "replicas", "durability", "read_level", "write_level", "merge")
            options = {name: step[name] for name in names if name in step}
            if "ttl_ms" in step:
                options["ttl"] = seconds(step["ttl_ms"])
            return await self.settle(getattr(client, do)(self.name(step, "name"), **options))
        of = self.sessions[step["session"]] if "session" in step else client
        bucket = of.bucket(self.name(step, "bucket"))
        return await self.in_bucket(step, bucket)

    async def session(self, step: Step, client: Any) -> Any:
        do, name = step["do"], step["session"]
        if do == "session":
            self.sessions[name] = client.session()
        elif do == "session_from":
            token = self.given(step, "token")
            token = token.encode() if isinstance(token, str) else token
            self.sessions[name] = client.session_from(token)
        else:
            return {"token": await self.settle(self.sessions[name].to_bytes())}
        return None

    async def in_bucket(self, step: Step, bucket: Any) -> Any:
        do = step["do"]
        options: dict[str, Any] = {n: step[n] for n in ("level", "stale") if n in step}
        if "timeout_ms" in step:
            options["timeout"] = seconds(step["timeout_ms"])
        if do == "scan":
            return await self.scan(step, bucket, options)
        if "ttl_ms" in step:
            options["ttl"] = seconds(step["ttl_ms"])
        if "expires_at_ms" in step:
            options["expires_at"] = seconds(step["expires_at_ms"])
        if "context" in step:
            options["context"] = self.given(step, "context")
        if do.startswith("multi"):
            if "entries" in step:
                given: Any = [(self.key(step, key), written(v)) for key, v in step["entries"]]
            else:
                given = [self.key(step, key) for key in step["keys"]]
            return await self.settle(getattr(bucket, do)(given, **options))
        arguments: list[Any] = [self.key(step, step["key"])]
        if do == "update":
            more = step.get("append", "").encode()
            remove = "remove" in step
            arguments.append(lambda value: annulet.DELETE if remove else (value or b"") + more)
        elif do == "get_merged":
            arguments.append(lambda values: step["join"].encode().join(values))
        elif do == "resolve":
            shown = await self.settle(bucket.resolve(arguments[0], self.given(step, "op_id")))
            return {"resolved": shown[0]}
        if "value" in step:
            arguments.append(written(step["value"]))
        if "version" in step:
            arguments.append(self.given(step, "version"))
        return await self.settle(getattr(bucket, do)(*arguments, **options))

    async def scan(self, step: Step, bucket: Any, options: dict[str, Any]) -> Any:
        if "page_entries" in step:
            options["page_entries"] = step["page_entries"]
        call = bucket.scan_entries if step.get("values") else bucket.scan
        scan = call(cursor=self.given(step, "cursor"), **options)
        most = step["count"] if "pages" in step else math.inf
        found: list[Any] = []
        while len(found) < most:
            try:
                found.append(await scan.__anext__() if hasattr(scan, "__anext__") else next(scan))
            except (StopAsyncIteration, StopIteration):
                break
        if "count" in step:
            assert len(found) == step["count"], found
        if "keys" in step:
            assert sorted(found) == [self.key(step, key) for key in step["keys"]], found
        if "entries" in step:
            pairs = sorted((entry.key, entry.value) for entry in found)
            entries = [(self.key(step, key), written(v)) for key, v in step["entries"]]
            assert pairs == entries, pairs
        return {"cursor": scan.cursor}
