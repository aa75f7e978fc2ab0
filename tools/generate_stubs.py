"""Generate the Python stubs of protos/ into client/imagewarden/v1, or check that those committed are up to date.

With --check nothing is written: it exits 1 and names the files that differ.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("imagewarden/v1")
TARGET = ROOT / "client" / PACKAGE
INIT = '"""Generated stubs of the API: run `make protos` after a change in protos/."""\n'


def generate(out: Path) -> None:
    """Run protoc over every file of the API, into `out`."""
    well_known = Path(protoc.__file__).parent / "_proto"
    plugin_dir = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--proto_path={PROTOS}",
        f"--proto_path={ROOT / 'third_party' / 'googleapis'}",
        f"--proto_path={well_known}",
        f"--plugin=protoc-gen-mypy={plugin_dir / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={plugin_dir / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *sorted(str(path) for path in (PROTOS / PACKAGE).glob("*.proto")),
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed: its message stands above")
    (out / PACKAGE / "__init__.py").write_text(INIT)
    # A file without services has an empty grpc stub, which nobody imports.
    services = {path.stem for path in (PROTOS / PACKAGE).glob("*.proto") if "\nservice " in path.read_text()}
    for stub in (out / PACKAGE).glob("*_pb2_grpc.py*"):
        if stub.name.split("_pb2_grpc")[0] not in services:
            stub.unlink()


def main() -> int:
    """Generate, then replace or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when the committed stubs are stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        generate(out)
        fresh = out / PACKAGE
        if not check:
            shutil.rmtree(TARGET, ignore_errors=True)
            shutil.copytree(fresh, TARGET)
            print(f"wrote {len(list(TARGET.iterdir()))} files to {TARGET.relative_to(ROOT)}")
            return 0
        names = {path.name for path in fresh.iterdir()}
        kept = {path.name for path in TARGET.iterdir() if path.is_file()} if TARGET.is_dir() else set()
        _, differing, missing = filecmp.cmpfiles(fresh, TARGET, names & kept, shallow=False)
        stale = sorted({*differing, *missing, *(names ^ kept)})
    if stale:
        print(f"stale stubs: {', '.join(stale)}; run `make protos` and commit", file=sys.stderr)
        return 1
    print("the committed stubs are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
