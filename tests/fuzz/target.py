"""What a fuzz target is: a part of the product that takes a stranger's bytes, and what must hold whatever they are."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

Flip = Callable[[bytes], bytes]
"""Changes some bytes without knowing what they are: the fuzzer's own way, or `wounds.plain`."""

Mutate = Callable[[bytes, random.Random, Flip], bytes]
"""Changes an input knowing how it is made, so that the change gets past checksums and lengths."""


@dataclass(frozen=True, slots=True)
class Target:
    """One target.

    Attributes:
        name: on the command line, and of its folder of seeds.
        run: takes an input, and returns; whatever it raises is a finding. What the product documents it expects itself.
        mutate: None: bytes are changed blindly.
        words: what the fuzzer may put in.
        most_bytes: of an input.
        seconds: the most that one input may take, on a slow and busy machine.
    """

    name: str
    run: Callable[[bytes], None]
    mutate: Mutate | None = None
    words: tuple[bytes, ...] = ()
    most_bytes: int = 4_096
    seconds: int = 5


def said(message: str, most: int = 1_000) -> None:
    """What every error's message must be: there, not endless, and a text that can be sent."""
    assert message, "an error without words"
    assert len(message) <= most, f"an error of {len(message):,} characters: {message[:200]}"
    message.encode()
