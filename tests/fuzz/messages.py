"""Changes of protobuf messages: one field at a time, wherever it stands, by what its type may hold."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tests.fuzz.target import Flip

Special = Mapping[str, Callable[[Message, random.Random], str]]
"""By a field's name, texts that only the whole request can tell: a page token is bound to it."""

_WHOLE = (0, 1, -1, 2, 50, 100, 1_000, 10_001, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
_REAL = (0.0, -0.0, 0.5, 1.0, 31.0, 256.0, -1.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


class Changer:
    """Changes messages.

    Args:
        words: texts that mean something to the service.
        pieces: bytes that do.
        special: see `Special`.
        repair: puts checksums right in bytes that were changed.
    """

    def __init__(
        self, words: Sequence[str], pieces: Sequence[bytes], special: Special, repair: Callable[[bytes], bytes]
    ) -> None:
        self._words, self._pieces, self._special, self._repair = words, pieces, special, repair

    def change(self, message: Message, chance: random.Random, flip: Flip, whole: Message | None = None) -> None:
        """Change one field of a message, or of one within it."""
        whole = message if whole is None else whole
        fields: Sequence[Any] = message.DESCRIPTOR.fields
        if not fields:
            return
        field = chance.choice(fields)
        if chance.random() < 0.15:
            message.ClearField(field.name)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._change_map(getattr(message, field.name), field, chance, flip)
        elif field.is_repeated:
            self._change_list(message, field, chance, flip, whole)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self.change(inner, chance, flip, whole)
        elif field.name in self._special and chance.random() < 0.7:
            setattr(message, field.name, self._special[field.name](whole, chance))
        else:
            setattr(message, field.name, self._value(field, getattr(message, field.name), chance, flip))

    def _change_list(
        self, message: Message, field: FieldDescriptor, chance: random.Random, flip: Flip, whole: Message
    ) -> None:
        values: Any = getattr(message, field.name)
        if values and chance.random() < 0.2:
            del values[chance.randrange(len(values))]
        elif values and chance.random() < 0.05:
            # More than any limit lets through, of what is there already.
            values.extend([values[-1]] * chance.choice((17, 65, 1_001)))
        elif field.message_type is None:
            if values and chance.random() < 0.5:
                place = chance.randrange(len(values))
                values[place] = self._value(field, values[place], chance, flip)
            else:
                values.append(self._value(field, None, chance, flip))
        else:
            inner = chance.choice(values) if values and chance.random() < 0.7 else values.add()
            self.change(inner, chance, flip, whole)

    def _change_map(self, values: Any, field: FieldDescriptor, chance: random.Random, flip: Flip) -> None:
        assert field.message_type is not None
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        if values and chance.random() < 0.2:
            del values[chance.choice(list(values))]
        elif value.message_type is None:
            for _ in range(chance.choice((1, 1, 1, 70))):
                values[self._value(key, None, chance, flip)] = self._value(value, None, chance, flip)

    def _value(self, field: FieldDescriptor, old: Any, chance: random.Random, flip: Flip) -> Any:
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                return self._text(field, old, chance, flip)
            case FieldDescriptor.CPPTYPE_BOOL:
                return chance.random() < 0.5
            case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
                real = chance.choice((*_REAL, chance.uniform(-1, 1), chance.uniform(-100, 1_000)))
                return real if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else max(-3e38, min(real, 3e38))
            case FieldDescriptor.CPPTYPE_ENUM:
                assert field.enum_type is not None
                return chance.choice([*(one.number for one in field.enum_type.values), 99, -1])
        low, high = _BITS[field.cpp_type]
        return max(low, min(chance.choice((*_WHOLE, chance.randint(0, 100))), high))

    def _text(self, field: FieldDescriptor, old: Any, chance: random.Random, flip: Flip) -> Any:
        if field.type == FieldDescriptor.TYPE_BYTES:
            if chance.random() < 0.3:
                return chance.choice(self._pieces)
            return self._repair(flip(old or chance.choice(self._pieces)))
        if chance.random() < 0.6:
            return chance.choice(self._words)
        if chance.random() < 0.05:
            return chance.choice(("x", "\x00", "é", "\U0001f600")) * chance.choice((1, 256, 257, 5_000))
        return flip((old or chance.choice(self._words)).encode()).decode("utf-8", "replace")
