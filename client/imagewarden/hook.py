"""What an upload hook needs: a decision within a latency budget, and its own choice of what a failure means.

    from imagewarden import Client
    from imagewarden.hook import fail_closed

    guard = fail_closed(Client("127.0.0.1:50051"), budget=0.5)
    decision = guard.check(upload)
    if not decision.allowed:
        reject(decision.action, decision.detail)

A guard never raises for trouble of the service or of an upload: it fails open or closed, as it was made, or applies
`on_undecided`, and the decision says which.

Two things are kept apart, because an uploader controls the second: a service that gave no verdict (`on_error`), and a
picture that cannot be checked, such as one that is empty or too large to send (`on_undecided`, or else REVIEW). So
nobody makes a guard fail open by uploading something odd; pass `review_allows=False` where nobody looks at REVIEW.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from imagewarden._aio import AsyncClient
from imagewarden._enums import Action
from imagewarden._errors import ImageWardenError, InvalidRequest, ResourceExhausted, TimeoutExceeded
from imagewarden._sources import ImageSource
from imagewarden._sync import Client
from imagewarden._types import CheckResult

DEFAULT_BUDGET = 0.5
OnError = Literal["fail_open", "fail_closed"]

_UNDECIDED_ACTIONS = (Action.ALLOW, Action.REVIEW, Action.BLOCK)
_CONTEXT_PAIRS, _CONTEXT_CHARACTERS = 16, 256


class Reason(enum.StrEnum):
    """Where a decision comes from: a verdict, a failure of the service, or a picture that cannot be checked."""

    VERDICT = "verdict"
    FAILED_OPEN = "failed_open"
    FAILED_CLOSED = "failed_closed"
    UNSCANNABLE = "unscannable"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the hook does with an upload.

    Attributes:
        allowed: publish it now. REVIEW is allowed or not as the guard was made (`review_allows`).
        action: ALLOW, REVIEW or BLOCK; of a failure ALLOW or BLOCK.
        reason: where the decision comes from.
        detail: why, in a sentence, for a log.
        result: the verdict; None where there is none.
        elapsed: seconds it took.
        error: what went wrong; None of a verdict.
    """

    allowed: bool
    action: Action
    reason: Reason
    detail: str
    result: CheckResult | None
    elapsed: float
    error: ImageWardenError | None = None


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a guard does, the same for both stacks."""

    budget: float
    on_error: OnError
    on_undecided: Action | str | None
    review_allows: bool

    def __post_init__(self) -> None:
        if self.budget <= 0:
            raise ValueError(f"budget is {self.budget}; it is seconds, more than 0")
        if self.on_error not in {"fail_open", "fail_closed"}:
            raise ValueError(f"on_error is {self.on_error!r}; it is 'fail_open' or 'fail_closed'")
        if self.on_undecided is not None and self.on_undecided not in _UNDECIDED_ACTIONS:
            raise ValueError(f"on_undecided is {self.on_undecided!r}; it is one of {', '.join(_UNDECIDED_ACTIONS)}")

    def _allows(self, action: Action) -> bool:
        return action is Action.ALLOW or (action is Action.REVIEW and self.review_allows)

    def decided(self, result: CheckResult, begin: float) -> Decision:
        if result.matches:
            first = result.matches[0]
            detail = f"{result.verdict}: {first.signal} of {first.entry}, score {first.score:.3f}"
        elif result.undecided_reasons:
            detail = f"{result.verdict}: {result.undecided_reasons[0].message}"
        else:
            detail = str(result.verdict)
        return Decision(
            self._allows(result.action), result.action, Reason.VERDICT, detail, result, time.monotonic() - begin
        )

    def failed(self, error: ImageWardenError, begin: float) -> Decision:
        elapsed = time.monotonic() - begin
        if _is_of_the_picture(error):
            action = Action(self.on_undecided or Action.REVIEW)
            detail = f"the picture cannot be checked: {error}"
            return Decision(self._allows(action), action, Reason.UNSCANNABLE, detail, None, elapsed, error)
        detail = f"no verdict within {self.budget:g} s ({type(error).__name__}: {error})"
        if self.on_error == "fail_open":
            action, reason = Action.ALLOW, Reason.FAILED_OPEN
        else:
            action, reason = Action.BLOCK, Reason.FAILED_CLOSED
        return Decision(action is Action.ALLOW, action, reason, detail, None, elapsed, error)


def _is_of_the_picture(error: ImageWardenError) -> bool:
    """Whether the upload itself is the reason: empty, over a limit, or over what a message may have."""
    if isinstance(error, InvalidRequest):
        return error.field == "image" or error.reason.startswith("IMAGE_")
    # grpc refuses a message over the server's limit without a word of the server's own.
    return isinstance(error, ResourceExhausted) and not error.reason and error.retry_after is None


def _fitting(context: Mapping[str, str] | None) -> dict[str, str]:
    """The context as the server takes it: a long or odd file name must not fail the check that it is noted beside."""
    return {_text(key): _text(value) for key, value in list((context or {}).items())[:_CONTEXT_PAIRS]}


def _text(value: str) -> str:
    return value[:_CONTEXT_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


class UploadGuard:
    """Decides about uploads over a `Client`.

    Args:
        client: the service.
        budget: seconds a decision may take at most, retries included.
        on_error: what a failure of the service means: `fail_open` publishes, `fail_closed` refuses.
        on_undecided: the action of an UNDECIDED verdict (None: the server's setting), and of a picture that cannot be
            checked (None: REVIEW).
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
        self._banks = tuple(banks)
        self._rules = _Rules(budget, on_error, on_undecided, review_allows)

    def check(self, image: ImageSource, *, context: Mapping[str, str] | None = None) -> Decision:
        """Decide about one upload: bytes, so that no slow file takes from the budget; a path or a file works too.

        Raises:
            OSError: the picture's file cannot be read.
        """
        begin = time.monotonic()
        try:
            result = self._client.check(
                image,
                banks=self._banks,
                on_undecided=self._rules.on_undecided,
                context=_fitting(context),
                timeout=self._rules.budget,
            )
        except ImageWardenError as error:
            return self._rules.failed(error, begin)
        return self._rules.decided(result, begin)


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
        self._banks = tuple(banks)
        self._rules = _Rules(budget, on_error, on_undecided, review_allows)

    async def check(self, image: ImageSource, *, context: Mapping[str, str] | None = None) -> Decision:
        """As `UploadGuard.check`."""
        begin = time.monotonic()
        try:
            async with asyncio.timeout(self._rules.budget):
                result = await self._client.check(
                    image,
                    banks=self._banks,
                    on_undecided=self._rules.on_undecided,
                    context=_fitting(context),
                    timeout=self._rules.budget,
                )
        except TimeoutError:
            return self._rules.failed(TimeoutExceeded("the budget is used up", code="DEADLINE_EXCEEDED"), begin)
        except ImageWardenError as error:
            return self._rules.failed(error, begin)
        return self._rules.decided(result, begin)


@overload
def fail_open(
    client: Client,
    *,
    budget: float = ...,
    on_undecided: Action | str | None = ...,
    banks: Sequence[str] = ...,
    review_allows: bool = ...,
) -> UploadGuard: ...
@overload
def fail_open(
    client: AsyncClient,
    *,
    budget: float = ...,
    on_undecided: Action | str | None = ...,
    banks: Sequence[str] = ...,
    review_allows: bool = ...,
) -> AsyncUploadGuard: ...
def fail_open(
    client: Client | AsyncClient,
    *,
    budget: float = DEFAULT_BUDGET,
    on_undecided: Action | str | None = None,
    banks: Sequence[str] = (),
    review_allows: bool = True,
) -> UploadGuard | AsyncUploadGuard:
    """A guard that publishes when the service fails: availability before safety."""
    return _guard(client, budget, "fail_open", on_undecided, banks, review_allows=review_allows)


@overload
def fail_closed(
    client: Client,
    *,
    budget: float = ...,
    on_undecided: Action | str | None = ...,
    banks: Sequence[str] = ...,
    review_allows: bool = ...,
) -> UploadGuard: ...
@overload
def fail_closed(
    client: AsyncClient,
    *,
    budget: float = ...,
    on_undecided: Action | str | None = ...,
    banks: Sequence[str] = ...,
    review_allows: bool = ...,
) -> AsyncUploadGuard: ...
def fail_closed(
    client: Client | AsyncClient,
    *,
    budget: float = DEFAULT_BUDGET,
    on_undecided: Action | str | None = None,
    banks: Sequence[str] = (),
    review_allows: bool = True,
) -> UploadGuard | AsyncUploadGuard:
    """A guard that refuses when the service fails: safety before availability."""
    return _guard(client, budget, "fail_closed", on_undecided, banks, review_allows=review_allows)


def _guard(
    client: Client | AsyncClient,
    budget: float,
    on_error: OnError,
    on_undecided: Action | str | None,
    banks: Sequence[str],
    *,
    review_allows: bool,
) -> UploadGuard | AsyncUploadGuard:
    if isinstance(client, AsyncClient):
        return AsyncUploadGuard(
            client,
            budget=budget,
            on_error=on_error,
            on_undecided=on_undecided,
            banks=banks,
            review_allows=review_allows,
        )
    return UploadGuard(
        client, budget=budget, on_error=on_error, on_undecided=on_undecided, banks=banks, review_allows=review_allows
    )
