"""A picture's signals, computed by one path for adding, checking and searching."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from imagewarden_server import media
from imagewarden_server.matching.errors import DomainError, ImageOverLimits, ImageUndecodable, InvalidField
from imagewarden_server.matching.policy import MIN_DEVIATION, PDQ_MIN_QUALITY
from imagewarden_server.matching.types import HashSignal, SignalType
from imagewarden_server.media import Digests, Frame, MediaError, MediaProblem

T = TypeVar("T")


class Workers:
    """The bounded threads that decode, hash and search: the event loop never computes."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="imagewarden")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a blocking function on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


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


def model_input(frames: list[Frame] | tuple[Frame, ...]) -> NDArray[np.uint8]:
    """The frames as the model takes them: uint8 [n, 299, 299, 3]."""
    return np.stack([frame.model_input for frame in frames])


def require_bytes(image: bytes, field: str = "image") -> None:
    """Refuse an empty picture: a caller's mistake, not a picture's."""
    if not image:
        raise InvalidField(field, "is empty; send the file's bytes")


def as_domain_error(error: MediaError, sha256: bytes) -> DomainError:
    """What a picture that gives no pixels means for a change: an error, where a check answers UNDECIDED."""
    kind = ImageOverLimits if error.problem is MediaProblem.OVER_LIMITS else ImageUndecodable
    return kind(error.message, sha256=sha256.hex())


def decode_or_raise(image: bytes, limits: media.Limits) -> media.Picture:
    """Decode for a change.

    Raises:
        ImageOverLimits, ImageUndecodable: the picture gives no pixels.
    """
    try:
        return media.decode(image, limits)
    except MediaError as error:
        raise as_domain_error(error, media.digest(image).sha256) from error
