"""Certificates that are changed while handshakes ask for them."""

from __future__ import annotations

import threading
from typing import Any

from imagewarden_server.listening import Listener
from imagewarden_server.settings import Settings


def test_a_certificate_that_comes_while_a_handshake_takes_the_last_one_is_not_lost() -> None:
    first, second = "the first", "the second"
    coming: list[threading.Thread] = []

    class Slow(Listener):
        """Another certificate comes where a handshake has taken the last one, and has not said so yet."""

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "_next" and value is None and "_held" in vars(self) and not coming:
                coming.append(threading.Thread(target=self.use, args=(second,)))
                coming[0].start()
                coming[0].join(0.2)
            super().__setattr__(name, value)

    listener = Slow(Settings())
    certificate: Any = first
    listener._held = certificate
    listener.use(certificate)
    shown: list[Any] = [listener._asked()]
    coming[0].join()
    shown += [listener._asked(), listener._asked()]
    assert shown == [first, second, None]
