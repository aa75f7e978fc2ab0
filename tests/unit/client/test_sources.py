"""Where a picture's bytes come from."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from imagewarden import InvalidRequest
from imagewarden._sources import MAX_IMAGE_BYTES, ImageSource, read_image


class Dribble:
    """A file that gives less than it is asked for, as a socket or a pipe does."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(min(size, 3))


def test_bytes_paths_and_files_give_the_same(tmp_path: Path) -> None:
    data = b"the file's bytes"
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    sources: list[ImageSource] = [
        data,
        bytearray(data),
        memoryview(data),
        path,
        str(path),
        io.BytesIO(data),
        Dribble(data),
    ]
    assert [read_image(source) for source in sources] == [data] * len(sources)


def test_more_than_can_be_sent_is_refused_and_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES * 100)  # sparse: reading it all would take more than 3 GB
    with pytest.raises(InvalidRequest) as caught:
        read_image(path)
    assert (caught.value.field, caught.value.reason) == ("image", "IMAGE_OVER_LIMITS")
    assert len(read_image(bytes(MAX_IMAGE_BYTES))) == MAX_IMAGE_BYTES


def test_a_text_file_is_a_mistake_that_says_so() -> None:
    with pytest.raises(TypeError, match="'rb'"):
        read_image(io.StringIO("text"))  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="give bytes, a path"):
        read_image(3)  # type: ignore[arg-type]  # the mistake


def test_a_missing_file_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "nothing.jpg")
