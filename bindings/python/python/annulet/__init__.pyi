from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from datetime import datetime, timedelta
from os import PathLike
from types import TracebackType
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from typing_extensions import Buffer

from . import sync as sync
from ._annulet import BucketPolicy as BucketPolicy
from ._annulet import Entry as Entry
from ._annulet import ScanEntry as ScanEntry
from ._annulet import Written as Written
from ._calls import DELETE as DELETE
from ._calls import Change
from ._errors import Closed as Closed
from ._errors import Conflict as Conflict
from ._errors import Error as Error
from ._errors import Internal as Internal
from ._errors import InvalidInput as InvalidInput
from ._errors import Overloaded as Overloaded
from ._errors import Timeout as Timeout
from ._errors import Unauthorized as Unauthorized
from ._errors import Unavailable as Unavailable

__all__ = [
    "DELETE",
    "Bucket",
    "BucketPolicy",
    "Client",
    "Closed",
    "Conflict",
    "Connecting",
    "Entry",
    "Error",
    "Internal",
    "InvalidInput",
    "Overloaded",
    "Scan",
    "ScanEntry",
    "Session",
    "Timeout",
    "Unauthorized",
    "Unavailable",
    "Written",
    "connect",
    "sync",
]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Call: TypeAlias = Coroutine[Any, Any, _T]
_Key: TypeAlias = str | Buffer
_Value: TypeAlias = Buffer
_Duration: TypeAlias = float | timedelta
_Moment: TypeAlias = float | datetime
_Maybe: TypeAlias = _T | Awaitable[_T]

class Client:
    def __init__(self, native: Any) -> None: ...
    def bucket(self, name: str) -> Bucket: ...
    def session(self) -> Session: ...
    def session_from(self, token: _Value) -> Session: ...
    def create_bucket(
        self,
        name: str,
        *,
        mode: Literal["lww", "siblings", "strong"] | None = None,
        replicas: int | None = None,
        durability: Literal["group", "async"] | None = None,
        read_level: str | None = None,
        write_level: str | None = None,
        ttl: _Duration | None = None,
        merge: Literal["union", "max", "counter", "lww"] | None = None,
    ) -> _Call[BucketPolicy]: ...
    def set_bucket(
        self,
        name: str,
        *,
        read_level: str | None = None,
        write_level: str | None = None,
        ttl: _Duration | None = None,
    ) -> _Call[BucketPolicy]: ...
    def delete_bucket(self, name: str) -> _Call[None]: ...
    def buckets(self) -> _Call[list[BucketPolicy]]: ...
    def statistics(self) -> dict[str, int]: ...
    def close(self) -> _Call[None]: ...
    async def __aenter__(self) -> Client: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

class Connecting(Coroutine[Any, Any, Client]):
    def __init__(self, operation: Any) -> None: ...
    def send(self, value: Any) -> Any: ...
    def throw(self, *raised: Any) -> Any: ...
    def close(self) -> None: ...
    def __await__(self) -> Generator[Any, None, Client]: ...
    async def __aenter__(self) -> Client: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

class Session:
    def __init__(self, native: Any) -> None: ...
    def bucket(self, name: str) -> Bucket: ...
    def to_bytes(self) -> _Call[bytes]: ...

class Bucket:
    def __init__(self, native: Any, name: str) -> None: ...
    @property
    def name(self) -> str: ...
    def get(
        self,
        key: _Key,
        *,
        level: str | None = None,
        timeout: _Duration | None = None,
        stale: bool = False,
    ) -> _Call[Entry | None]: ...
    def get_merged(
        self,
        key: _Key,
        resolve: Callable[[list[bytes]], _Maybe[_Value]],
        *,
        level: str | None = None,
        timeout: _Duration | None = None,
    ) -> _Call[Entry | None]: ...
    def exists(
        self,
        key: _Key,
        *,
        level: str | None = None,
        timeout: _Duration | None = None,
        stale: bool = False,
    ) -> _Call[bool]: ...
    def put(
        self,
        key: _Key,
        value: _Value,
        *,
        ttl: _Duration | None = None,
        expires_at: _Moment | None = None,
        context: _Value | None = None,
        level: str | None = None,
        timeout: _Duration | None = None,
    ) -> _Call[Written]: ...
    def delete(
        self,
        key: _Key,
        *,
        context: _Value | None = None,
        level: str | None = None,
        timeout: _Duration | None = None,
    ) -> _Call[Written]: ...
    def touch(
        self,
        key: _Key,
        *,
        ttl: _Duration | None = None,
        expires_at: _Moment | None = None,
        level: str | None = None,
        timeout: _Duration | None = None,
    ) -> _Call[Written | None]: ...
    def put_if_version(
        self,
        key: _Key,
        value: _Value,
        version: str,
        *,
        ttl: _Duration | None = None,
        expires_at: _Moment | None = None,
        timeout: _Duration | None = None,
    ) -> _Call[Written]: ...
    def put_if_absent(
        self,
        key: _Key,
        value: _Value,
        *,
        ttl: _Duration | None = None,
        expires_at: _Moment | None = None,
        timeout: _Duration | None = None,
    ) -> _Call[Written]: ...
    def delete_if_version(
        self,
        key: _Key,
        version: str,
        *,
        timeout: _Duration | None = None,
    ) -> _Call[Written]: ...
    def update(
        self,
        key: _Key,
        change: Callable[[bytes | None], _Maybe[_Value | Change]],
        *,
        ttl: _Duration | None = None,
        expires_at: _Moment | None = None,
        timeout: _Duration | None = None,
    ) -> _Call[Written | None]: ...
    def resolve(
        self, key: _Key, op_id: str
    ) -> _Call[tuple[Literal["applied", "not_applied", "forgotten"], str | None]]: ...
    def multi_get(
        self,
        keys: Iterable[_Key],
        *,
        level: str | None = None,
        timeout: _Duration | None = None,
        stale: bool = False,
    ) -> _Call[list[Entry | Error | None]]: ...
    def multi_put(
        self,
        entries: Mapping[Any, _Value] | Iterable[tuple[_Key, _Value]],
        *,
        ttl: _Duration | None = None,
        expires_at: _Moment | None = None,
        level: str | None = None,
        timeout: _Duration | None = None,
    ) -> _Call[list[Written | Error]]: ...
    def multi_delete(
        self,
        keys: Iterable[_Key],
        *,
        level: str | None = None,
        timeout: _Duration | None = None,
    ) -> _Call[list[Written | Error]]: ...
    def scan(
        self,
        *,
        page_entries: int | None = None,
        cursor: str | None = None,
        level: str | None = None,
        timeout: _Duration | None = None,
    ) -> Scan[bytes]: ...
    def scan_entries(
        self,
        *,
        page_entries: int | None = None,
        cursor: str | None = None,
        level: str | None = None,
        timeout: _Duration | None = None,
    ) -> Scan[ScanEntry]: ...

class Scan(Generic[_T_co]):
    def __init__(self, native: Any, cursor: str | None, show: Any) -> None: ...
    @property
    def cursor(self) -> str | None: ...
    @property
    def is_over(self) -> bool: ...
    def __aiter__(self) -> Scan[_T_co]: ...
    async def __anext__(self) -> _T_co: ...

def connect(
    *,
    profile: str | PathLike[str] | None = None,
    timeout: _Duration | None = None,
    level: str | None = None,
    zone: str | None = None,
    region: str | None = None,
    connections_max: int | None = None,
    idle_after: _Duration | None = None,
    check_one_in: int | None = None,
) -> Connecting: ...
