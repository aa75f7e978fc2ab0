"""One run of `imagewarden bench`: its parts, one after the other, and what they leave behind."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imagewarden_bench import (
    catalogue_size,
    index_part,
    known_pictures,
    life,
    list_import,
    new_pictures,
    stages,
    tables,
)
from imagewarden_bench.pictures import Pictures
from imagewarden_bench.setting import FULL, QUICK, Setting, Sizes
from imagewarden_eval import report
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.progress import Progress

PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "new": new_pictures.measure,
    "known": known_pictures.measure,
    "index": index_part.measure,
    "size": catalogue_size.measure,
    "life": life.measure,
    "lists": list_import.measure,
    "stages": stages.measure,
}

_PACKAGES = (
    "faiss-cpu",
    "grpcio",
    "keras",
    "numpy",
    "opencv-python-headless",
    "tensorflow",
    "threatexchange",
    "usearch",
)


@dataclass(frozen=True)
class Options:
    """What a run is asked: the command's options."""

    command: str
    out: Path
    images: tuple[Path, ...] = ()
    parts: tuple[str, ...] = ()
    model_base_path: Path = Path("var/model/inception")
    quick: bool = False
    rounds: int | None = None
    seconds: float | None = None
    seed: int = 1
    quiet: bool = False


def run(options: Options) -> dict[str, Any]:
    """Measure, write the report, and answer what is in it.

    The report is written anew as each part ends: a run of hours that is interrupted leaves what it has measured.

    Raises:
        EvaluationError: there is no model, no such part, or what is measured did not start; it says what to do.
    """
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        raise EvaluationError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not any(options.model_base_path.glob("[0-9]*")):
        raise EvaluationError(
            f"{options.model_base_path} has no version of a model; make one with `imagewarden model export --out "
            "var/model` and give --model-base-path var/model/inception"
        )
    sizes = _sizes(options)
    asked = options.parts or tuple(PARTS)
    conditions = report.conditions(
        options.command,
        options.seed,
        processor=_processor(),
        load_before=round(os.getloadavg()[0], 2),
        versions=_versions(),
        rounds=sizes.rounds,
        seconds_a_turn=sizes.seconds,
    )
    record: dict[str, Any] = {"conditions": conditions}
    with tempfile.TemporaryDirectory(prefix="imagewarden-bench-") as folder, ExitStack() as started:
        setting = Setting(
            sizes=sizes,
            seed=options.seed,
            model_base_path=options.model_base_path.absolute(),
            scratch=Path(folder),
            pictures=Pictures(options.images, options.seed),
            progress=Progress(quiet=options.quiet),
            started=started,
        )
        took: dict[str, float] = {}
        for part in asked:
            begin = time.monotonic()
            record[part] = PARTS[part](setting)
            took[part] = time.monotonic() - begin
            conditions["parts"] = _parts_text(asked, took)
            report.write(options.out, record, tables.markdown(record))
            tables.plots(record, options.out)
    return record


def _parts_text(asked: Sequence[str], took: Mapping[str, float]) -> str:
    """What of a run is in its report and how long that took, and what is still to come."""
    left = [part for part in asked if part not in took]
    done = ", ".join(f"{part} ({seconds:.0f} s)" for part, seconds in took.items())
    return done + (f"; not yet {', '.join(left)}" if left else "")


def _sizes(options: Options) -> Sizes:
    sizes = QUICK if options.quick else FULL
    said = {"rounds": options.rounds, "seconds": options.seconds}
    return replace(sizes, **{name: value for name, value in said.items() if value is not None})  # type: ignore[arg-type]  # by name


def _processor() -> str:
    """The processor's name, where the kernel says it."""
    try:
        lines: Sequence[str] = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = ()
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _versions() -> str:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} missing")
    return ", ".join(found)
