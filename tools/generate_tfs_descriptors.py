"""Cut the messages that the server speaks out of the official TensorFlow Serving protos, or check the cut is current.

The official package imports all of TensorFlow. The server needs Predict, GetModelMetadata and GetModelStatus: their
descriptors, 30 KB, are written as a FileDescriptorSet. With --check nothing is written: it exits 1 where it is stale.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

TARGET = Path(__file__).resolve().parent.parent / "server/imagewarden_server/embedding/_tfs/descriptors.binpb"


def collect() -> bytes:
    """The service files and all they import, but the well-known types, each after what it imports."""
    ordered: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def visit(file: Any) -> None:
        if file.name in ordered or file.name.startswith("google/protobuf/"):
            return
        for dependency in file.dependencies:
            visit(dependency)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        ordered[file.name] = proto

    for module in (prediction_service_pb2, model_service_pb2):
        visit(module.DESCRIPTOR)
    return descriptor_pb2.FileDescriptorSet(file=ordered.values()).SerializeToString(deterministic=True)


def main() -> int:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when the committed descriptors are stale")
    check = parser.parse_args().check
    fresh = collect()
    if not check:
        TARGET.write_bytes(fresh)
        print(f"wrote {len(fresh)} bytes")
        return 0
    if TARGET.read_bytes() != fresh:
        print("the TensorFlow Serving descriptors are stale; run tools/generate_tfs_descriptors.py", file=sys.stderr)
        return 1
    print("the TensorFlow Serving descriptors are up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
