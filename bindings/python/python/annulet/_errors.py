"""What is raised: one class a kind, all of them an `Error`."""

from __future__ import annotations

from typing import Literal


class Error(Exception):
    """An operation that failed. The class says what to do; the message is for people."""

    def __init__(
        self,
        message: str,
        *,
        outcome: Literal["not_applied", "unknown"] | None = None,
        retryable: bool = False,
        op_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.outcome = outcome
        self.retryable = retryable
        self.op_id = op_id

    @property
    def kind(self) -> str:
        """The kind's name, the same in every language."""
        for base in type(self).__mro__:
            if Error in base.__bases__:
                return base.__name__
        return "Internal"

    def __str__(self) -> str:
        if self.outcome is None:
            return self.message
        return f"{self.message} (outcome {self.outcome})"

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.message, self.outcome, self.retryable, self.op_id)


def _again(
    kind: type[Error],
    message: str,
    outcome: Literal["not_applied", "unknown"] | None,
    retryable: bool,
    op_id: str | None,
) -> Error:
    """An error that went to another process."""
    return kind(message, outcome=outcome, retryable=retryable, op_id=op_id)


class InvalidInput(Error, ValueError):
    """The request cannot be: change it."""


class Conflict(Error):
    """The condition of a conditional write did not hold: read again, then decide anew."""


class Unavailable(Error):
    """Too few replicas could be reached: try again later, or at a lower level."""


class Timeout(Error, TimeoutError):
    """The deadline passed: try again, or give it more time. A write may have been applied."""


class Overloaded(Error):
    """The servers have too much to do: try again later and slower."""


class Unauthorized(Error):
    """The servers do not accept this client's certificate or role: change the profile."""


class Closed(Error):
    """The client was closed, or belongs to the process that this one was forked from: connect a
    new one."""


class Internal(Error):
    """A fault of Annulet's own: report it."""
