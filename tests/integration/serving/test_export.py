"""The exported model: its files, its numbers against the network it was made of, and what it does not compute."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2
from tests.integration.serving.saved_model import Array, SavedModel

from imagewarden_serving import card as cards
from imagewarden_serving.architectures import ARCHITECTURES
from imagewarden_serving.export import ExportResult, export
from imagewarden_serving.weights import load

pytestmark = [pytest.mark.model, pytest.mark.slow]

DESCRIPTORS = ("embedding", "regions", "logos", "semantic")
CONVOLUTIONS_TO_MIXED3 = 30
CONVOLUTIONS = 94


@pytest.fixture(scope="module")
def model(exported: ExportResult) -> Iterator[SavedModel]:
    made = SavedModel(exported.directory)
    yield made
    made.close()


@pytest.fixture(scope="module")
def answers(model: SavedModel, pictures: NDArray[np.uint8]) -> dict[str, Array]:
    return model.run("serving_default", pictures)


@pytest.fixture(scope="module")
def network() -> Any:
    """The network that the model is made of, with its batch norms."""
    return load(ARCHITECTURES["inception_v3"], "nsfwjs", lambda _: None)


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    scaled: NDArray[Any] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


def cosines(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = np.sum(unit(one.astype(np.float64)) * unit(other.astype(np.float64)), axis=-1)
    return found


def test_the_files_are_those_that_a_model_server_reads(exported: ExportResult) -> None:
    directory = exported.directory
    assert (directory.parent.name, directory.name) == ("inception", "1")
    found = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))
    assert found == [
        "assets.extra",
        "assets.extra/tf_serving_warmup_requests",
        "model_card.json",
        "saved_model.pb",
        "variables",
    ]
    assert [path.name for path in directory.parent.iterdir()] == ["1"], "no scratch may be left"
    assert directory.stat().st_mode & 0o055 == 0o055, "a server under another user must be able to read it"


def test_signatures_have_the_batch_in_front_and_the_dtypes_promised(model: SavedModel) -> None:
    default, encoded, describe, *backgrounds = (
        model.signatures[name]
        for name in ("serving_default", "encoded", "describe", "copy_background", "logo_background")
    )

    def said(tensors: Any) -> dict[str, tuple[int, list[int]]]:
        return {name: (one.dtype, [int(side.size) for side in one.tensor_shape.dim]) for name, one in tensors.items()}

    outputs = {
        "embedding": (tf.float32.as_datatype_enum, [-1, 768]),
        "regions": (tf.float32.as_datatype_enum, [-1, 39, 768]),
        "logos": (tf.float32.as_datatype_enum, [-1, 39, 768]),
        "semantic": (tf.float32.as_datatype_enum, [-1, 2048]),
        "last_pool": (tf.float32.as_datatype_enum, [-1, 2048]),
        "nsfw": (tf.float32.as_datatype_enum, [-1, 5]),
    }
    assert said(default.inputs) == {"images": (tf.uint8.as_datatype_enum, [-1, 299, 299, 3])}
    assert said(encoded.inputs) == {"image_bytes": (tf.string.as_datatype_enum, [-1])}
    assert said(describe.inputs) == {"probe": (tf.int32.as_datatype_enum, [-1])}
    assert said(default.outputs) == said(encoded.outputs) == outputs
    assert said(describe.outputs) == {"card": (tf.string.as_datatype_enum, [-1])}
    for background in backgrounds:
        assert said(background.inputs) == {"probe": (tf.int32.as_datatype_enum, [-1])}
        assert list(background.outputs) == ["background"]
    assert {one.method_name for one in model.signatures.values()} == {"tensorflow/serving/predict"}


def test_the_frozen_graph_gives_what_the_network_with_its_batch_norms_gives(
    answers: dict[str, Array], network: Any, pictures: NDArray[np.uint8], exported: ExportResult
) -> None:
    import keras

    inner = network.model
    layers = keras.Model(inner.input, [inner.get_layer("mixed3").output, inner.get_layer("mixed10").output])
    maps, last = (one.numpy().astype(np.float64) for one in layers(pictures.astype(np.float32) / 255.0))

    whole = np.mean(maps**3, axis=(1, 2)) ** (1 / 3)
    assert cosines(answers["embedding"], whole).min() > 0.99999
    average = last.mean(axis=(1, 2))
    assert cosines(answers["semantic"], average).min() > 0.99999
    boxes = exported.card["regions"]["boxes"]
    for row, box in enumerate(boxes):
        left, top, right, bottom = (round(edge * 17) for edge in box)
        window = np.mean(maps[:, top:bottom, left:right] ** 3, axis=(1, 2)) ** (1 / 3)
        assert cosines(answers["regions"][:, row], window).min() > 0.9999
    hidden = average
    for layer in network.nsfw[:-1]:
        hidden = np.maximum(hidden @ layer.kernel + layer.bias, 0)
    logits = hidden @ network.nsfw[-1].kernel + network.nsfw[-1].bias
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(answers["nsfw"], scores / scores.sum(axis=1, keepdims=True), atol=1e-3)


def test_descriptors_have_unit_norm_and_class_scores_sum_to_one(answers: dict[str, Array]) -> None:
    for name in DESCRIPTORS:
        np.testing.assert_allclose(np.linalg.norm(answers[name], axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(answers["nsfw"].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(answers["regions"][:, 0], answers["embedding"], atol=1e-5)


def test_harmless_photographs_are_called_harmless(answers: dict[str, Array], exported: ExportResult) -> None:
    # The head and its classes belong together in this order: a shifted or transposed kernel would not say so.
    scores = dict(zip(exported.card["nsfw"]["classes"], answers["nsfw"].T, strict=True))
    assert (scores["Neutral"] + scores["Drawing"]).min() > 0.9


def test_copies_are_nearer_than_other_photographs(
    model: SavedModel, answers: dict[str, Array], pictures: Array
) -> None:
    copies = []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).resize((150, 150)).save(buffer, "JPEG", quality=30)
        copies.append(np.asarray(Image.open(buffer).resize((299, 299), Image.Resampling.BILINEAR)))
    found = model.run("serving_default", np.stack(copies), ("embedding",))["embedding"]
    similarity = found @ answers["embedding"].T
    assert (similarity.argmax(axis=1) == np.arange(len(pictures))).all()


def test_without_a_head_the_logo_vectors_are_the_regions(answers: dict[str, Array], exported: ExportResult) -> None:
    np.testing.assert_array_equal(answers["logos"], answers["regions"])
    logos, regions = exported.card["logos"], exported.card["regions"]
    assert (logos["head_sha256"], logos["background"]) == (None, [0, 0])
    assert (logos["boxes"], logos["dimension"]) == (regions["boxes"], 768)


def test_a_picture_s_answer_depends_on_no_neighbour(
    model: SavedModel, answers: dict[str, Array], pictures: NDArray[np.uint8]
) -> None:
    for place, picture in enumerate(pictures):
        alone = model.run("serving_default", picture[None])
        for name, rows in alone.items():
            np.testing.assert_allclose(rows[0], answers[name][place], atol=1e-4)


def test_encoded_pictures_give_what_their_pixels_give(
    model: SavedModel, answers: dict[str, Array], photographs: dict[str, bytes], pictures: NDArray[np.uint8]
) -> None:
    found = model.run("encoded", [photographs[name] for name in sorted(photographs)])
    for name in DESCRIPTORS:
        assert cosines(found[name], answers[name]).min() > 0.999
    np.testing.assert_allclose(found["nsfw"], answers["nsfw"], atol=0.02)
    lossless = io.BytesIO()
    Image.fromarray(pictures[0]).save(lossless, "PNG")
    exact = model.run("encoded", [lossless.getvalue()])
    for name in DESCRIPTORS:
        np.testing.assert_allclose(exact[name][0], answers[name][0], atol=1e-4)


def png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def with_size(file: bytes, width: int, height: int) -> bytes:
    return file[:16] + struct.pack(">II", width, height) + file[24:]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("empty", "neither a JPEG nor a PNG"),
        ("text", "neither a JPEG nor a PNG"),
        ("gif", "neither a JPEG nor a PNG"),
        ("png of 400 megapixels", "at most this many pixels"),
        ("png whose size wraps around", "at most this many pixels"),
        ("png without width", "at most this many pixels"),
        ("truncated png", "Invalid PNG data"),
        ("truncated jpeg", "Invalid JPEG data"),
        ("jpeg of its magic alone", "Invalid JPEG data"),
    ],
)
def test_hostile_bytes_are_an_error_before_they_are_decoded(
    model: SavedModel, pictures: NDArray[np.uint8], photographs: dict[str, bytes], name: str, says: str
) -> None:
    whole = png(pictures[0])
    jpeg = photographs["dust-bowl-home"]
    content = {
        "empty": b"",
        "text": b"no picture",
        "gif": b"GIF89a" + bytes(50),
        "png of 400 megapixels": with_size(whole, 20_000, 20_000),
        "png whose size wraps around": with_size(whole, 65_536, 65_536),
        "png without width": with_size(whole, 0, 100),
        "truncated png": whole[: len(whole) // 2],
        "truncated jpeg": jpeg[: len(jpeg) // 2],
        "jpeg of its magic alone": b"\xff\xd8\xff",
    }[name]
    with pytest.raises(tf.errors.InvalidArgumentError, match=says):
        model.run("encoded", [content], ("embedding",))


def test_the_model_says_what_it_is(model: SavedModel, exported: ExportResult) -> None:
    said = model.run("describe", [0, 7, 9])["card"]
    assert said.shape == (3,)
    written = (exported.directory / cards.FILE_NAME).read_bytes()
    assert set(said) == {written}
    card = json.loads(written)
    assert card == exported.card
    assert card["fingerprint"] == cards.fingerprint(card)
    assert (card["architecture"], card["embedding"]["layer"], card["regions"]["count"]) == (
        "inception_v3",
        "mixed3",
        39,
    )
    assert len(card["regions"]["boxes"]) == 39
    # The tensors of nsfwjs 4.3.0: another figure here means that stored vectors of old models compare no more.
    assert card["weights"]["tensors_sha256"] == "48e0aeb0a1a5963fb4f0dea92dd6c307db2f8155757510da216c318e503c0d6c"


def convolutions(nodes: Any) -> int:
    return sum(node.op in {"Conv2D", "_FusedConv2D", "_MklNativeFusedConv2D", "_MklNativeConv2D"} for node in nodes)


def test_the_copy_descriptor_needs_no_layer_after_its_own(model: SavedModel) -> None:
    whole = model.graph.as_graph_def()
    assert convolutions(whole.node) == CONVOLUTIONS
    for name in ("embedding", "regions"):
        needed = tf.compat.v1.graph_util.extract_sub_graph(whole, [name])
        assert convolutions(needed.node) == CONVOLUTIONS_TO_MIXED3
        assert not [node.name for node in needed.node if "mixed4" in node.name or "mixed10" in node.name]


def test_a_session_runs_only_what_is_asked(model: SavedModel, pictures: NDArray[np.uint8]) -> None:
    """What was executed, by TensorFlow's own account of the run, after its optimisers."""

    def executed(outputs: tuple[str, ...]) -> int:
        options = tf.compat.v1.RunOptions(output_partition_graphs=True)
        account = tf.compat.v1.RunMetadata()
        model.run("serving_default", pictures[:1], outputs, options=options, run_metadata=account)
        return sum(convolutions(part.node) for part in account.partition_graphs)

    assert executed(("embedding", "regions")) == CONVOLUTIONS_TO_MIXED3
    assert executed(("semantic",)) == CONVOLUTIONS


def test_the_graph_has_neither_variables_nor_batch_norms_nor_functions_around_it(model: SavedModel) -> None:
    nodes = model.graph.as_graph_def().node
    assert {node.name for node in nodes if node.op == "Placeholder"} == {"image_bytes", "probe"}
    ops = {node.op for node in nodes}
    assert not {op for op in ops if "Variable" in op or "VarHandle" in op or "BatchNorm" in op}
    assert not {op for op in ops if "PartitionedCall" in op or "PyFunc" in op}


def test_the_warm_up_requests_run(model: SavedModel, exported: ExportResult) -> None:
    path = exported.directory / "assets.extra" / "tf_serving_warmup_requests"
    filters, signatures = [], set()
    for record in tf.data.TFRecordDataset(str(path)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "inception"
        (value,) = request.inputs.values()
        outputs = tuple(request.output_filter)
        answer = model.run(request.model_spec.signature_name, tf.make_ndarray(value), outputs)
        assert all(len(rows) == 1 for rows in answer.values())
        filters.append(outputs)
        signatures.add(request.model_spec.signature_name)
    assert signatures == {"serving_default", "encoded", "describe"}, "a background is only read, where there is one"
    # What the server asks for: for copies, for logos, for both in one check; for what a picture means.
    for outputs in (("embedding", "regions"), ("logos",), ("embedding", "logos", "regions"), ("semantic",)):
        assert outputs in filters


class Stopped(Exception):
    """The export was stopped half-way."""


def test_a_version_appears_whole_and_a_stopped_export_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imagewarden_serving import warmup

    def stop(name: str, directory: Path) -> None:
        # The network is on disk by now, under a name that no server takes for a version.
        assert (directory / "saved_model.pb").is_file()
        assert not [path.name for path in (tmp_path / name).iterdir() if path.name.isdecimal()]
        raise Stopped

    monkeypatch.setattr(warmup, "write", stop)
    with pytest.raises(Stopped):
        export(tmp_path)
    assert list((tmp_path / "inception").iterdir()) == []
