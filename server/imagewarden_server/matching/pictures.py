"""A picture's signals, computed by one path for adding, checking and searching."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from imagewarden_server import media
from imagewarden_server.matching.errors import DomainError, ImageOverLimits, ImageUndecodable, InvalidField
from imagewarden_server.matching.policy import MIN_DEVIATION, PDQ_MIN_QUALITY
from imagewarden_server.matching.ports import Decoder
from imagewarden_server.matching.types import Box, HashSignal, SignalType
from imagewarden_server.media import Digests, Frame, MediaError, MediaProblem

T = TypeVar("T")


class Workers:
    """The bounded threads that decode, hash and search: the event loop never computes.

    Args:
        threads: for what is short.
        looking: for what takes long, and must not hold up what is short.
    """

    def __init__(self, threads: int, *, looking: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="imagewarden")
        self._looking = ThreadPoolExecutor(looking, thread_name_prefix="imagewarden-look")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a blocking function on a thread, which knows whose call it works for."""
        return await self._on(self._pool, function, *arguments)

    async def look(self, function: Callable[..., T], *arguments: object) -> T:
        """The same of one that decodes, or finds keypoints. Where its caller gives up before its turn it never runs."""
        return await self._on(self._looking, function, *arguments)

    async def _on(self, pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: object) -> T:
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(pool, context.run, function, *arguments)

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        for pool in (self._pool, self._looking):
            pool.shutdown(wait=True, cancel_futures=True)


def digest_signals(digests: Digests) -> tuple[HashSignal, ...]:
    """The digests as signals, the most exact first."""
    return (
        HashSignal(SignalType.SHA256, digests.sha256),
        HashSignal(SignalType.SHA1, digests.sha1),
        HashSignal(SignalType.MD5, digests.md5),
    )


def pdq_usable(frame: Frame) -> bool:
    """Whether a frame has structure enough for its PDQ hash to be compared or stored."""
    return frame.pdq.quality >= PDQ_MIN_QUALITY


def embedding_usable(frame: Frame) -> bool:
    """Whether a frame has structure enough for its embedding to be compared or stored."""
    return frame.deviation >= MIN_DEVIATION


def model_input(frames: Sequence[Frame]) -> NDArray[np.uint8]:
    """The frames as the model takes them: uint8 [n, 299, 299, 3]."""
    return np.stack([frame.model_input for frame in frames])


@dataclass(frozen=True, slots=True)
class Look:
    """One picture that the model is given: a frame, or with `window` a part of it.

    Attributes:
        pixels: uint8 [299, 299, 3].
    """

    frame: int
    window: Box | None
    pixels: NDArray[np.uint8]

    def place(self, box: Box) -> Box:
        """Where a box of this look is in the frame."""
        if self.window is None:
            return box
        left, top = self.window.left, self.window.top
        width, height = self.window.right - left, self.window.bottom - top
        return Box(left + box.left * width, top + box.top * height, left + box.right * width, top + box.bottom * height)


_CLOSE = 0.6
_CLOSE_LOOKS = tuple(
    Box(left, top, left + _CLOSE, top + _CLOSE)
    for left, top in ((0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.4, 0.4), (0.2, 0.2))
)


def looks(frames: Sequence[Frame], *, thorough: bool) -> list[Look]:
    """What the model is given of the frames: each as it is, and for a thorough check its corners and its middle too."""
    given = [Look(frame.index, None, frame.model_input) for frame in frames]
    if thorough:
        given += [
            Look(frame.index, box, media.close_look(frame, astuple(box))) for frame in frames for box in _CLOSE_LOOKS
        ]
    return given


def require_bytes(image: bytes, field: str = "image") -> None:
    """Refuse an empty picture: a caller's mistake, not a picture's."""
    if not image:
        raise InvalidField(field, "is empty; send the file's bytes")


def as_domain_error(error: MediaError, sha256: bytes) -> DomainError:
    """What a picture that gives no pixels means for a change: an error, where a check answers UNDECIDED."""
    kind = ImageOverLimits if error.problem is MediaProblem.OVER_LIMITS else ImageUndecodable
    return kind(error.message, sha256=sha256.hex())


def decode_or_raise(image: bytes, decoder: Decoder, deadline: float | None = None) -> media.Picture:
    """Decode for a change or a search, with what the frames show.

    Args:
        image: the file.
        decoder: decodes it.
        deadline: monotonic seconds until which a decoder is waited for; None: as long as it takes.

    Raises:
        ImageOverLimits, ImageUndecodable: the picture gives no pixels.
    """
    try:
        picture = decoder.picture(image, deadline)
        for frame in picture.frames:
            frame.shown  # noqa: B018 -- made here, on a worker
    except MediaError as error:
        raise as_domain_error(error, media.sha256(image)) from error
    return picture
