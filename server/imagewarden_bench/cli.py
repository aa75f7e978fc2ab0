"""`imagewarden bench`: how fast the service is here, beside its limits and its peers.

What the run needs is imported by the command, not by this module: the help comes at once.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)

_PARTS = ("new", "known", "index", "size", "life", "lists", "stages")


def _complete_part(incomplete: str) -> list[str]:
    return [part for part in _PARTS if part.startswith(incomplete)]


@app.callback(invoke_without_command=True)
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="A small run of about two minutes.")] = False,
    part: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure this part alone: new, known, index, size, life, lists or stages; may be given again.",
            autocompletion=_complete_part,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None, typer.Option(help="A folder of photographs; unset: public-domain ones are fetched.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder of the report.")] = Path("bench"),
    model_base_path: Annotated[Path, typer.Option(help="The directory that has the model's versions.")] = Path(
        "var/model/inception"
    ),
    rounds: Annotated[int | None, typer.Option(min=1, help="Turns of each contender.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.2, help="Of a turn.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same pictures.")] = 1,
    json_output: Annotated[bool, typer.Option("--json", help="Answer the record as JSON on standard output.")] = False,
) -> None:
    """Measure the service on this machine: started for the run on loopback, by turns with its limits and peers.

    New pictures beside the bare model and a textbook pipeline; known ones beside Meta's matcher; the index beside
    faiss; checks by the size of the catalogue; starts and bans; a list that comes in; each
    stage by itself. Run it while the machine does
    nothing else.
    """
    from imagewarden_eval.cli_common import run as run_command  # noqa: PLC0415 -- the help needs none of these

    def work() -> None:
        from imagewarden_bench.run import Options, run  # noqa: PLC0415 -- the same

        record = run(
            Options(
                command=shlex.join(["imagewarden", *sys.argv[1:]]),
                out=out,
                images=tuple(images or ()),
                parts=tuple(part or ()),
                model_base_path=model_base_path,
                quick=quick,
                rounds=rounds,
                seconds=seconds,
                seed=seed,
                quiet=json_output,
            )
        )
        typer.echo(json.dumps(record, ensure_ascii=False) if json_output else (out / "report.md").read_text())

    run_command("bench", work, group="bench")
