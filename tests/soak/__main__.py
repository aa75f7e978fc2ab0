"""The soak: real processes with everything on for twenty minutes, and nothing that grows: `python -m tests.soak`.

A model host, a server that asks for keys, its decoders; checks of new, banned, copied and broken pictures by single
calls, batches and streams; bans and removals, lists in and out, logos, reports and quarantine, changes of entries and
policies, previews; snapshots every 30 s, copies every minute, metrics scraped each second, keys that are made and
revoked, strangers. See docs/reliability.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.soak import report
from tests.soak.callers import Callers, Keys
from tests.soak.material import Material
from tests.soak.tally import Tally
from tests.soak.watch import Watch
from tests.support.processes import start_host, start_server

MODEL = Path("var/model/inception")
SEED = 2_026
_SERVER = {
    "IMAGEWARDEN_REQUIRE_KEYS": "true",
    "IMAGEWARDEN_SNAPSHOT_SECONDS": "30",
    # Full after a few minutes, so that they are not what grows.
    "IMAGEWARDEN_EMBEDDING_CACHE_BYTES": str(16 * 2**20),
    "IMAGEWARDEN_PREVIEW_WINDOW_BYTES": str(2 * 2**20),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where all holds that must."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    usual = float(os.environ.get("SOAK_MINUTES") or 20)
    parser.add_argument("--minutes", type=float, default=usual, help="how long: %(default)g")
    parser.add_argument("--out", type=Path, default=Path("var/soak"), help="where soak.json and soak.png are written")
    said = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="imagewarden-soak-") as name, contextlib.ExitStack() as stack:
        scratch = Path(name)
        state = scratch / "state"
        state.mkdir(mode=0o700)
        admin = Keys(state).make("admin", "--role", "admin")
        host = stack.enter_context(start_host(MODEL, scratch))
        server = stack.enter_context(start_server(state, host.address, scratch, _SERVER))
        callers = Callers(server.address, state, Material(SEED))
        callers.prepare(admin)
        print(f"ready; {said.minutes:g} minutes begin", flush=True)
        tally = Tally()
        callers.start(tally)
        watch = Watch(server, host, tally)
        watch.start()
        while tally.seconds < 60 * said.minutes and server.process.poll() is None and host.process.poll() is None:
            time.sleep(min(30.0, max(0.1, 60 * said.minutes - tally.seconds)))
            told = sum(tally.answered().values())
            print(f"{tally.seconds / 60:5.1f} minutes: {told:,} answers, {tally.failures} errors", flush=True)
        watch.stop()
        callers.stop()
        for what, process in (("the server", server), ("the model host", host)):
            if process.process.poll() is not None:
                tally.failed(what, f"it ended with {process.process.poll()}: {process.log.read_text()[-1_000:]}")
        figures = report.summed_up(tally, watch.series, said.minutes)
    report.write(figures, tally, said.out)
    print(f"{said.out}/soak.json and {said.out}/soak.png are written")
    for kind, count in figures["answers"].items():
        took = figures["latency_ms"][kind]
        print(f"{kind:<24}{count:>7,}   p50 {took['p50']:>8,.1f} ms   p99 {took['p99']:>8,.1f} ms")
    print("growth in the last half, MiB a minute:", figures["growth_mib_a_minute"])
    print("handles, last quarter and second one:", figures["more_handles"])
    wrong = report.broken(figures)
    for sentence in wrong:
        print(f"not as it must be: {sentence}")
    print(f"{sum(figures['answers'].values()):,} answers, {figures['errors']} errors")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
