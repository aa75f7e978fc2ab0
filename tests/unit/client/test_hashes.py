"""Reading hashes as people write them."""

from __future__ import annotations

import pytest

from imagewarden import Hash, SignalType

MD5 = "900150983cd24fb0d6963f7d28e17f72"
SHA1 = "a9993e364706816aba3e25717850c26c9cd0d89d"
LONG = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("text", "kind", "digits"),
    [
        (f"sha256:{LONG}", SignalType.SHA256, LONG),
        (f"  SHA-256: {LONG.upper()} ", SignalType.SHA256, LONG),
        (f"pdq {LONG}", SignalType.PDQ, LONG),
        (f"pdq\t{LONG}", SignalType.PDQ, LONG),
        (f"sha1:{SHA1}", SignalType.SHA1, SHA1),
        (MD5, SignalType.MD5, MD5),
        (SHA1.upper(), SignalType.SHA1, SHA1),
    ],
)
def test_a_hash_is_read(text: str, kind: SignalType, digits: str) -> None:
    assert Hash.parse(text) == Hash(kind, digits)


def test_bare_digits_are_of_the_given_type() -> None:
    assert Hash.parse(LONG, type=SignalType.PDQ) == Hash(SignalType.PDQ, LONG)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LONG, "sha256 or pdq"),
        (f"sha256:{LONG[:-2]}", "has 64 hexadecimal digits"),
        (f"md5:{LONG}", "has 32 hexadecimal digits"),
        (f"pdq:{LONG[:-1]}g", "no pdq hash"),
        (f"photodna:{LONG}", "'photodna' is no hash type"),
        (f"embedding:{LONG}", "'embedding' is no hash type"),
        ("abc", "no known hash"),
        ("hello world again", "no hash"),
        ("", "no hash"),
        ("sha256:", "no hash"),
        (f"sha256:{LONG} trailing", "no hash"),
    ],
)
def test_what_is_no_hash_is_refused_and_says_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Hash.parse(text)


def test_a_bare_hash_of_another_length_than_its_type_is_refused() -> None:
    with pytest.raises(ValueError, match="has 32 hexadecimal digits"):
        Hash.parse(LONG, type=SignalType.MD5)
