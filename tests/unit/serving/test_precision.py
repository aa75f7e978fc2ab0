"""In which precision the model host computes, by what the kernel says of the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagewarden_serving.host.precision import Precision


def processor(folder: Path, flags: str) -> Path:
    file = folder / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: some processor\nflags\t\t: fpu {flags}\nbugs\t\t:\n")
    return file


@pytest.mark.parametrize("flags", ["avx512f avx512_bf16", "avx512f amx_bf16 amx_tile"])
def test_auto_is_bfloat16_where_there_are_instructions(flags: str, tmp_path: Path) -> None:
    assert Precision.AUTO.uses_bfloat16(processor(tmp_path, flags))


@pytest.mark.parametrize("flags", ["avx2", "avx512f avx512_vnni", "avx512_bf16x"])
def test_auto_is_float32_where_they_would_be_emulated(flags: str, tmp_path: Path) -> None:
    assert not Precision.AUTO.uses_bfloat16(processor(tmp_path, flags))


def test_auto_is_float32_where_the_kernel_says_nothing(tmp_path: Path) -> None:
    assert not Precision.AUTO.uses_bfloat16(tmp_path / "none")
    (tmp_path / "empty").touch()
    assert not Precision.AUTO.uses_bfloat16(tmp_path / "empty")


def test_what_is_told_is_done(tmp_path: Path) -> None:
    assert Precision.BFLOAT16.uses_bfloat16(processor(tmp_path, "avx2"))
    assert not Precision.NONE.uses_bfloat16(processor(tmp_path, "avx512_bf16"))
