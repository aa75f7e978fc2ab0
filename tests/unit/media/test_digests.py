from __future__ import annotations

from imagewarden_server.media import digest


def test_digests_of_a_published_message() -> None:
    # FIPS 180-4's and RFC 1321's examples.
    digests = digest(b"abc")
    assert digests.sha256.hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digests.sha1.hex() == "a9993e364706816aba3e25717850c26c9cd0d89d"
    assert digests.md5.hex() == "900150983cd24fb0d6963f7d28e17f72"
