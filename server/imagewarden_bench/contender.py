"""Contenders in processes of their own: told by lines of JSON on standard input, they answer by lines of it.

`python -m imagewarden_bench.contender model DIR`: the bare frozen model, without any server.
`python -m imagewarden_bench.contender textbook DIR`: exports the textbook model to DIR, and ends.
`python -m imagewarden_bench.contender heic FILE`: writes a picture as HEIC beside it, and ends: what encodes it cannot
be opened in a process in which usearch has searched.
`python -m imagewarden_bench.contender grown FILE`: makes a state one of many pictures, as FILE (JSON) says, and ends:
it takes more memory than a server should find itself beside.
`python -m imagewarden_bench.contender hma FILE`: Meta's matcher behind HTTP, over the hashes of a file, a line each.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

OUTPUTS = ("embedding", "logos", "regions")
"""What a check asks of the model."""


def _answer(**said: Any) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def model(folder: Path) -> None:
    """Run the newest version of a model on random pictures: a batch a call, by so many threads, for so long.

    In float32, as it is exported; and in bfloat16 where that is told, and the processor has instructions for it.
    """
    from imagewarden_serving.host.precision import Precision  # noqa: PLC0415 -- of this kind alone
    from imagewarden_serving.host.servable import SavedModelServable, SessionOptions  # noqa: PLC0415 -- TensorFlow

    path = max(folder.glob("[0-9]*"), key=lambda one: int(one.name))
    precisions = {False, Precision.AUTO.uses_bfloat16()}
    servables = {
        bfloat16: SavedModelServable("model", int(path.name), path, SessionOptions(bfloat16=bfloat16))
        for bfloat16 in precisions
    }
    generator = np.random.default_rng(1)
    for servable in servables.values():
        # The first run builds what later ones use.
        servable.run("serving_default", OUTPUTS, {"images": generator.integers(0, 256, (1, 299, 299, 3), np.uint8)})
    _answer(ready=True, bfloat16=True in precisions)
    for line in sys.stdin:
        told = json.loads(line)
        pictures = generator.integers(0, 256, (told["batch"], 299, 299, 3), np.uint8)
        until = time.perf_counter() + told["seconds"]

        servable = servables[told["bfloat16"]]

        def work(pictures: Any = pictures, until: float = until, servable: Any = servable) -> list[float]:
            took: list[float] = []
            while not took or time.perf_counter() < until:
                begin = time.perf_counter()
                servable.run("serving_default", OUTPUTS, {"images": pictures})
                took.append(time.perf_counter() - begin)
            return took

        begin, processor = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(told["threads"]) as pool:
            took = [one for each in [pool.submit(work) for _ in range(told["threads"])] for one in each.result()]
        wall = time.perf_counter() - begin
        pictures_seen = len(took) * told["batch"]
        _answer(
            a_second=pictures_seen / wall,
            pass_ms=1e3 * statistics.median(took),
            processor_ms=1e3 * (time.process_time() - processor) / pictures_seen,
        )


def textbook(folder: Path) -> None:
    """Export Keras' Inception v3 with its average pool, frozen: version 1 of a model in a folder.

    Its weights are random: they decide what it says, and not how long it takes.
    """
    import keras  # noqa: PLC0415 -- it takes seconds
    import tensorflow as tf  # noqa: PLC0415 -- the same
    from tensorflow.python.framework import convert_to_constants  # noqa: PLC0415 -- the same

    network = keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg", input_shape=(299, 299, 3))

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3), tf.uint8, name="images")])  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def embed(images: Any) -> Any:
        scaled = keras.applications.inception_v3.preprocess_input(tf.cast(images, tf.float32))
        return network(scaled, training=False)

    frozen = convert_to_constants.convert_variables_to_constants_v2(embed.get_concrete_function())
    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        tf.import_graph_def(frozen.graph.as_graph_def(), name="")
        tf.compat.v1.saved_model.simple_save(
            session,
            str(folder / "1"),
            {"images": graph.get_tensor_by_name(frozen.inputs[0].name)},
            {"embedding": graph.get_tensor_by_name(frozen.outputs[0].name)},
        )


def heic(file: Path) -> None:
    """Write a picture as HEIC, under its name with another suffix."""
    import pillow_heif  # noqa: PLC0415 -- of this kind alone
    from PIL import Image  # noqa: PLC0415 -- the same

    pillow_heif.register_heif_opener()
    Image.open(file).save(file.with_suffix(".heic"), "HEIF", quality=85)


def grown(options: Path) -> None:
    """Grow a state, as the options say."""
    from imagewarden_bench.grown import grow  # noqa: PLC0415 -- of this kind alone

    told = json.loads(options.read_text())
    grow(Path(told["state"]), told["pictures"], told["hashes"], told["seed"])


def hma(hashes: Path) -> None:
    """Hash what is posted by PDQ and match it, as Meta's Hasher-Matcher-Actioner does by the threatexchange package."""
    from threatexchange.signal_type.pdq.signal import PdqSignal  # noqa: PLC0415 -- a peer, in this process alone

    rows = [(line, number) for number, line in enumerate(hashes.read_text().split())]
    index = PdqSignal.get_index_cls().build(rows)
    # faiss' index is not asked by two threads at once there either.
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Without it each answer waits 40 ms for the caller to acknowledge its head.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            said = PdqSignal.hash_from_bytes(data)
            with lock:
                found = [one.metadata for one in index.query(said)] if said else []
            body = json.dumps({"hash": said, "matches": found}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class' name
            """Nothing: a line a request would be measured too."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _answer(ready=True, port=server.server_port)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    {"model": model, "textbook": textbook, "heic": heic, "grown": grown, "hma": hma}[sys.argv[1]](Path(sys.argv[2]))
