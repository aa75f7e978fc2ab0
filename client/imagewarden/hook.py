"""What an upload hook needs: a decision within a latency budget, and its own choice of what a failure means.

    from imagewarden import Client
    from imagewarden.hook import fail_closed

    guard = fail_closed(Client("127.0.0.1:50051"), budget=0.5)
    decision = guard.check(upload)
    if not decision.allowed:
        reject(decision.action, decision.detail)

A guard never raises for trouble of the service: it fails open or closed, as it was made, and the decision says so.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from imagewarden._aio import AsyncClient
from imagewarden._errors import ImageWardenError, InvalidRequest, TimeoutExceeded
from imagewarden._sources import ImageSource
from imagewarden._sync import Client
from imagewarden._types import Action, CheckResult

DEFAULT_BUDGET = 1.0
OnError = Literal["fail_open", "fail_closed"]


class Reason(enum.StrEnum):
    """Where a decision comes from."""

    VERDICT = "verdict"
    FAILED_OPEN = "failed_open"
    FAILED_CLOSED = "failed_closed"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the hook does with an upload.

    Attributes:
        allowed: publish it now. REVIEW is allowed or not as the guard was made (`review_allows`).
        action: ALLOW, REVIEW or BLOCK; of a failure ALLOW or BLOCK.
        reason: whether this is a verdict, or a failure that opened or closed.
        detail: why, in a sentence, for a log.
        result: the verdict; None where there is none.
        elapsed: seconds it took.
    """

    allowed: bool
    action: Action
    reason: Reason
    detail: str
    result: CheckResult | None
    elapsed: float


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a guard does, the same for both stacks."""

    budget: float
    on_error: OnError
    on_undecided: Action | str | None
    banks: Sequence[str]
    review_allows: bool

    def __post_init__(self) -> None:
        if self.budget <= 0:
            raise ValueError(f"budget is {self.budget}; it is seconds, more than 0")
        if self.on_error not in {"fail_open", "fail_closed"}:
            raise ValueError(f"on_error is {self.on_error!r}; it is 'fail_open' or 'fail_closed'")

    def asked(self, context: Mapping[str, str] | None) -> dict[str, Any]:
        return {"banks": self.banks, "on_undecided": self.on_undecided, "context": context, "timeout": self.budget}

    def decided(self, result: CheckResult, elapsed: float) -> Decision:
        allowed = result.action is Action.ALLOW or (result.action is Action.REVIEW and self.review_allows)
        if result.matches:
            first = result.matches[0]
            detail = f"{result.verdict}: {first.signal} of {first.entry}, score {first.score:.3f}"
        elif result.undecided_reasons:
            detail = f"{result.verdict}: {result.undecided_reasons[0].message}"
        else:
            detail = str(result.verdict)
        return Decision(allowed, result.action, Reason.VERDICT, detail, result, elapsed)

    def failed(self, error: Exception, elapsed: float) -> Decision:
        detail = f"no verdict within {self.budget:g} s ({type(error).__name__}: {error})"
        if self.on_error == "fail_open":
            return Decision(True, Action.ALLOW, Reason.FAILED_OPEN, detail, None, elapsed)  # noqa: FBT003 -- allowed
        return Decision(False, Action.BLOCK, Reason.FAILED_CLOSED, detail, None, elapsed)  # noqa: FBT003 -- refused


class UploadGuard:
    """Decides about uploads over a `Client`.

    Args:
        client: the service.
        budget: seconds a decision may take at most, retries included.
        on_error: what a failure of the service means: `fail_open` publishes, `fail_closed` refuses.
        on_undecided: the action of an UNDECIDED verdict; None: the server's setting.
        banks: the banks to check; none: all.
        review_allows: whether a picture to be reviewed is published meanwhile.
    """

    def __init__(
        self,
        client: Client,
        *,
        budget: float = DEFAULT_BUDGET,
        on_error: OnError = "fail_closed",
        on_undecided: Action | str | None = None,
        banks: Sequence[str] = (),
        review_allows: bool = True,
    ) -> None:
        self._client = client
        self._rules = _Rules(budget, on_error, on_undecided, tuple(banks), review_allows)

    def check(self, image: ImageSource, *, context: Mapping[str, str] | None = None) -> Decision:
        """Decide about one upload.

        Raises:
            InvalidRequest: the request itself is wrong, which no outage excuses: an empty picture, an unknown field.
            OSError: the picture's file cannot be read.
        """
        begin = time.monotonic()
        try:
            result = self._client.check(image, **self._rules.asked(context))
        except InvalidRequest:
            raise
        except ImageWardenError as error:
            return self._rules.failed(error, time.monotonic() - begin)
        return self._rules.decided(result, time.monotonic() - begin)


class AsyncUploadGuard:
    """As `UploadGuard`, over an `AsyncClient`."""

    def __init__(
        self,
        client: AsyncClient,
        *,
        budget: float = DEFAULT_BUDGET,
        on_error: OnError = "fail_closed",
        on_undecided: Action | str | None = None,
        banks: Sequence[str] = (),
        review_allows: bool = True,
    ) -> None:
        self._client = client
        self._rules = _Rules(budget, on_error, on_undecided, tuple(banks), review_allows)

    async def check(self, image: ImageSource, *, context: Mapping[str, str] | None = None) -> Decision:
        """As `UploadGuard.check`."""
        begin = time.monotonic()
        try:
            async with asyncio.timeout(self._rules.budget):
                result = await self._client.check(image, **self._rules.asked(context))
        except InvalidRequest:
            raise
        except TimeoutError:
            return self._rules.failed(TimeoutExceeded("the budget is used up"), time.monotonic() - begin)
        except ImageWardenError as error:
            return self._rules.failed(error, time.monotonic() - begin)
        return self._rules.decided(result, time.monotonic() - begin)


def fail_open(client: Client, *, budget: float = DEFAULT_BUDGET, **rules: Any) -> UploadGuard:
    """A guard that publishes when the service fails: availability before safety."""
    return UploadGuard(client, budget=budget, on_error="fail_open", **rules)


def fail_closed(client: Client, *, budget: float = DEFAULT_BUDGET, **rules: Any) -> UploadGuard:
    """A guard that refuses when the service fails: safety before availability."""
    return UploadGuard(client, budget=budget, on_error="fail_closed", **rules)
