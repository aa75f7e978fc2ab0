"""All targets, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz import lists, pictures, protocol, service, texts
from tests.fuzz.target import Target

TARGETS: Mapping[str, Target] = {
    target.name: target for part in (pictures, protocol, service, texts, lists) for target in part.targets()
}
