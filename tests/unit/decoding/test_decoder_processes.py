"""Decoding in processes of their own: the same pictures as here; whatever one does there, the server goes on."""

from __future__ import annotations

import io
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.decoding.unruly import DOES
from tests.unit.media.crafted import ENCODINGS, animated, encoded, png

from imagewarden_server.decoding import DecoderProcesses, processes
from imagewarden_server.media import ImageFormat, Limits, MediaError, MediaProblem, Picture, decode, pixels, render_logo

LIMITS = Limits(max_pixels=1_000_000, max_bytes=2**21)
MOVING = [one for one in ENCODINGS if one not in {ImageFormat.JPEG, ImageFormat.BMP}]


class Counted:
    """Notes how decoder processes ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def decoder_ended(self, how: str) -> None:
        self.ended.append(how)


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecoderProcesses]:
    made = DecoderProcesses(LIMITS, processes=2)
    yield made
    made.close()


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def one(counted: Counted) -> Iterator[DecoderProcesses]:
    """One process alone, whose ends are counted."""
    made = DecoderProcesses(LIMITS, processes=1, observer=counted)
    yield made
    made.close()


@pytest.fixture
def unruly(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderProcesses]:
    """Two processes that pictures have taken over."""
    monkeypatch.setattr(processes, "_CHILD", Path(__file__).with_name("unruly.py"))
    made = DecoderProcesses(LIMITS, processes=2, observer=counted, seconds=3.0)
    yield made
    made.close()


def children() -> set[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def same(found: Picture, expected: Picture) -> bool:
    """Whether all that the signals see of two pictures is the same."""
    return found.header == expected.header and all(
        (one.index, one.pdq, one.turned, one.deviation) == (two.index, two.pdq, two.turned, two.deviation)
        and np.array_equal(one.small, two.small)
        and np.array_equal(one.model_input, two.model_input)
        for one, two in zip(found.frames, expected.frames, strict=True)
    )


@pytest.mark.parametrize("format_", ENCODINGS)
def test_each_format_is_decoded_as_it_is_here(
    decoder: DecoderProcesses, astronaut: Image.Image, format_: ImageFormat
) -> None:
    data = encoded(astronaut, format_)
    assert same(decoder.picture(data), decode(data, LIMITS))


@pytest.mark.parametrize("format_", MOVING)
def test_the_frames_of_each_format_are_decoded_as_they_are_here(
    decoder: DecoderProcesses, chelsea: Image.Image, format_: ImageFormat
) -> None:
    data = animated([chelsea.rotate(20 * number) for number in range(4)], format_)
    found = decoder.picture(data)
    assert len(found.frames) == 4
    assert same(found, decode(data, LIMITS))


@pytest.mark.parametrize(
    "data",
    [b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", png(10, 10), png(5_000, 5_000), bytes(2**21 + 1)],
    ids=["junk", "SVG", "broken", "too many pixels", "too many bytes"],
)
def test_what_gives_no_pixels_is_said_as_it_is_here(decoder: DecoderProcesses, data: bytes) -> None:
    with pytest.raises(MediaError) as here:
        decode(data, LIMITS)
    with pytest.raises(MediaError) as there:
        decoder.picture(data)
    assert (there.value.problem, there.value.message) == (here.value.problem, here.value.message)


def test_logos_are_drawn_as_they_are_here(decoder: DecoderProcesses, chelsea: Image.Image) -> None:
    masked = chelsea.convert("RGBA")
    masked.putalpha(Image.radial_gradient("L").resize(masked.size))
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle cx="4" cy="4" r="3"/></svg>'
    for data in (encoded(masked, ImageFormat.PNG), encoded(chelsea, ImageFormat.JPEG), drawing):
        for found, expected in zip(decoder.logo(data), render_logo(data, LIMITS), strict=True):
            assert np.array_equal(found.logo, expected.logo)
            assert found.ground == expected.ground
    with pytest.raises(MediaError):
        decoder.logo(b"no logo")


def test_pixels_that_are_held_stay_as_they_are(one: DecoderProcesses, chelsea: Image.Image) -> None:
    files = [encoded(chelsea.rotate(7 * number), ImageFormat.PNG) for number in range(12)]
    held = [one.picture(data) for data in files]
    for _ in range(3):
        for data in files:
            one.picture(data)
    assert all(same(found, decode(data, LIMITS)) for found, data in zip(held, files, strict=True))


def test_memory_is_used_again(one: DecoderProcesses, chelsea: Image.Image) -> None:
    def pieces() -> int:
        return Path("/proc/self/maps").read_text().count("imagewarden-pixels")

    before = pieces()
    small = encoded(chelsea.resize((60, 40)), ImageFormat.PNG)
    large = encoded(chelsea.resize((999, 999)), ImageFormat.JPEG)
    for number in range(40):
        one.picture(large if number % 2 else small)
    assert pieces() - before <= 2
    crowd = [one.picture(small) for _ in range(30)]
    assert pieces() - before >= 30
    del crowd
    for _ in range(2):
        one.picture(small)
    assert pieces() - before <= 6


def test_memory_of_the_largest_pictures_is_given_back(counted: Counted) -> None:
    limits = Limits(max_pixels=50_000_000)
    made = DecoderProcesses(limits, processes=1, observer=counted)
    try:
        # PNG, which is decoded at its full size whatever is wanted of it.
        large = encoded(Image.new("RGB", (7_000, 6_000), "teal"), ImageFormat.PNG)
        small = encoded(Image.effect_noise((70, 60), 40).convert("RGB"), ImageFormat.PNG)

        def held() -> int:
            ranges = [
                line.split()[0].split("-")
                for line in Path("/proc/self/maps").read_text().splitlines()
                if "imagewarden-pixels" in line
            ]
            return sum(int(end, 16) - int(begin, 16) for begin, end in ranges)

        before = held()
        picture = made.picture(large)
        assert held() - before >= 42_000_000 * 3
        del picture
        for _ in range(2):
            made.picture(small)
        assert held() - before < 2**22
    finally:
        made.close()
    assert counted.ended == []


def test_no_decoder_is_waited_for_longer_than_there_is_time(one: DecoderProcesses, chelsea: Image.Image) -> None:
    data = encoded(chelsea, ImageFormat.PNG)
    one.picture(data)
    busy = one._idle.get()
    begin = time.monotonic()
    with pytest.raises(MediaError, match="no decoder was free") as caught:
        one.picture(data, begin + 0.3)
    assert 0.25 < time.monotonic() - begin < 5
    assert caught.value.passing, "another time it may be seen"
    with pytest.raises(MediaError, match="no decoder was free"):
        one.picture(data, begin)
    one._give_back(busy)
    assert same(one.picture(data, time.monotonic() + 30), decode(data, LIMITS))


def test_nothing_is_kept_that_this_system_can_take_away(one: DecoderProcesses, chelsea: Image.Image) -> None:
    one.picture(encoded(chelsea, ImageFormat.PNG))
    if sys.platform.startswith("linux") and platform.machine() in {"x86_64", "aarch64"}:
        assert [what for what in one.lacking() if "seccomp" in what] == []


def test_many_threads_may_ask_at_once(decoder: DecoderProcesses, chelsea: Image.Image) -> None:
    files = [encoded(chelsea.rotate(11 * number), ImageFormat.JPEG) for number in range(8)] * 4
    expected = [decode(data, LIMITS) for data in files]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(decoder.picture, files))
    assert all(same(*both) for both in zip(found, expected, strict=True))


def test_a_process_that_was_killed_is_replaced(counted: Counted, chelsea: Image.Image) -> None:
    data = encoded(chelsea, ImageFormat.PNG)
    before = children()
    made = DecoderProcesses(LIMITS, processes=1, observer=counted)
    made.warm()
    for _ in range(2):
        (process,) = children() - before
        os.kill(process, signal.SIGKILL)
        assert same(made.picture(data), decode(data, LIMITS))
    made.close()
    assert counted.ended == ["crashed", "crashed"]


def test_processes_outlive_the_signals_that_end_a_server_and_end_with_it(chelsea: Image.Image) -> None:
    before = children()
    made = DecoderProcesses(LIMITS, processes=2)
    made.warm()
    started = children() - before
    for process in started:
        os.kill(process, signal.SIGTERM)
        os.kill(process, signal.SIGINT)
    assert len(started) == 2
    assert made.picture(encoded(chelsea, ImageFormat.PNG)).header.width == chelsea.width
    assert children() - before == started
    made.close()
    assert children() == before


def test_processes_that_do_not_work_are_told_at_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text("raise SystemExit(1)")
    monkeypatch.setattr(processes, "_CHILD", tmp_path / "child.py")
    made = DecoderProcesses(LIMITS, processes=1)
    with pytest.raises(RuntimeError, match="the decoder processes do not work"):
        made.warm()
    made.close()


@pytest.mark.parametrize(
    "does", [one for one in DOES if one not in {b"good", b"hang", b"trickle", b"hoard"}], ids=bytes.decode
)
def test_a_process_that_was_taken_over_gives_no_picture(
    unruly: DecoderProcesses, counted: Counted, does: bytes
) -> None:
    assert unruly.picture(b"good").frames[0].shown.model_input.shape == (299, 299, 3)
    with pytest.raises(MediaError, match="ended two decoder processes") as caught:
        unruly.picture(does)
    assert caught.value.problem is MediaProblem.UNDECODABLE
    how = "crashed" if does in {b"exit", b"abort", b"half"} else "nonsense"
    assert counted.ended == [how, how]
    assert unruly.picture(b"good").header.width == 4


@pytest.mark.parametrize("does", [b"hang", b"trickle"], ids=bytes.decode)
def test_a_picture_that_takes_too_long_is_given_up(unruly: DecoderProcesses, counted: Counted, does: bytes) -> None:
    begin = time.monotonic()
    with pytest.raises(MediaError, match="takes more than 3 s to decode") as caught:
        unruly.picture(does)
    assert caught.value.passing
    assert caught.value.problem is MediaProblem.OVER_LIMITS
    assert counted.ended == ["killed"]
    assert time.monotonic() - begin < 10
    assert unruly.picture(b"good").header.height == 2


def test_memory_that_is_never_given_back_is_no_memory(unruly: DecoderProcesses) -> None:
    def ask(times: int) -> None:
        for _ in range(times):
            unruly.picture(b"hoard")

    with pytest.raises(MediaError, match="ended two decoder processes"):
        ask(40)
    assert unruly.picture(b"good").header.width == 4


@pytest.mark.parametrize("most", [10_000, 200_000, 1_000_000])
def test_the_frames_of_an_animation_need_no_room_of_the_pixels_that_are_allowed(
    chelsea: Image.Image, most: int
) -> None:
    limits = Limits(max_pixels=most)
    side = int(most**0.5)
    moving = [chelsea.rotate(30 * number).resize((side, side)) for number in range(8)]
    made = DecoderProcesses(limits, processes=1)
    try:
        made.warm()
        for data in (animated(moving, ImageFormat.GIF), encoded(moving[0], ImageFormat.PNG)):
            assert same(made.picture(data), decode(data, limits))
        made.logo(encoded(moving[0], ImageFormat.PNG))
    finally:
        made.close()


def test_descriptors_are_closed_whatever_comes(unruly: DecoderProcesses) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for does in (b"two memories", b"memory that can shrink", b"no memory but a file", b"short hashes"):
        with pytest.raises(MediaError):
            unruly.picture(does)
    for _ in range(3):
        unruly.picture(b"good")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_picture_that_takes_too_much_memory_is_over_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(_: io.BytesIO) -> None:
        raise MemoryError

    monkeypatch.setattr(pixels, "_DECODERS", {ImageFormat.PNG: hungry})
    with pytest.raises(MediaError) as caught:
        decode(png(10, 10), LIMITS)
    assert caught.value.problem is MediaProblem.OVER_LIMITS
