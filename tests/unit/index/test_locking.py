import contextlib
import threading
import time
from collections.abc import Callable

from imagewarden_server.index.locking import ReadersWriterLock


def started(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_readers_are_beside_each_other() -> None:
    lock = ReadersWriterLock()
    both = threading.Barrier(2, timeout=10)

    def read() -> None:
        with lock.read():
            both.wait()

    threads = [started(read), started(read)]
    for thread in threads:
        thread.join(10)
    assert not both.broken


def test_a_waiting_writer_goes_before_readers_that_come_after_it() -> None:
    lock = ReadersWriterLock()
    order: list[str] = []
    release = threading.Event()

    def first_reader() -> None:
        with lock.read():
            release.wait(10)
            order.append("first reader")

    def writer() -> None:
        with lock.write():
            order.append("writer")

    def second_reader() -> None:
        with lock.read():
            order.append("second reader")

    threads = [started(first_reader)]
    until(lambda: lock._readers == 1)
    threads.append(started(writer))
    until(lambda: lock._writers_waiting == 1)
    threads.append(started(second_reader))
    time.sleep(0.05)
    assert order == []
    release.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first reader", "writer", "second reader"]


def test_a_stream_of_readers_does_not_starve_a_writer() -> None:
    lock = ReadersWriterLock()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            with lock.read():
                time.sleep(0.002)

    threads = [started(read) for _ in range(4)]
    begin = time.monotonic()
    for _ in range(20):
        with lock.write():
            assert lock._readers == 0
    took = time.monotonic() - begin
    stop.set()
    for thread in threads:
        thread.join(10)
    assert took < 5


def test_an_error_inside_gives_the_lock_back() -> None:
    lock = ReadersWriterLock()
    for hold in (lock.read, lock.write):
        with contextlib.suppress(KeyError), hold():
            raise KeyError
    with lock.write():
        assert lock._readers == 0
