"""Decode JPEG and PNG inside the graph, for the signature `encoded`: header limits first, then the decoder."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

MAX_PIXELS = 50_000_000
"""The largest picture that is decoded, width x height: three bytes each are allocated at once."""

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
# RFC 2083, section 3 and 4.1.1: eight bytes of signature, IHDR's length and name, then width and height, big-endian.
_PNG_SIZE_AT = 16
_PNG_HEADER_BYTES = 24


def decode_pictures(image_bytes: Any, side: int) -> Any:
    """Decode and resize encoded pictures.

    The resize is plain (the aspect ratio is not kept), bilinear and antialiased, as Pillow's `BILINEAR`. EXIF
    orientation and colour profiles are not applied and alpha is dropped: who needs these decodes on the client's side
    and sends `images`.

    Args:
        image_bytes: string [N], a JPEG or PNG file each.
        side: of the result.

    Returns:
        uint8 [N, side, side, 3]. When run, INVALID_ARGUMENT for bytes that are neither, are damaged, or whose header
        says more than `MAX_PIXELS`.
    """
    # One at a time: decoded pictures are large, and the network takes most of the time.
    return tf.map_fn(
        lambda encoded: _decode(encoded, side),
        image_bytes,
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([side, side, 3], tf.uint8),
    )


def _decode(encoded: Any, side: int) -> Any:
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, len(_JPEG_MAGIC)), _JPEG_MAGIC)
    is_png = tf.logical_and(
        tf.equal(tf.strings.substr(encoded, 0, len(_PNG_MAGIC)), _PNG_MAGIC),
        tf.strings.length(encoded) >= _PNG_HEADER_BYTES,
    )
    known = tf.debugging.Assert(tf.logical_or(is_jpeg, is_png), ["image_bytes holds neither a JPEG nor a PNG file"])
    with tf.control_dependencies([known]):
        height, width = tf.cond(is_jpeg, lambda: _jpeg_size(encoded), lambda: _png_size(encoded))
    # In 64 bits: a lying header's product does not wrap around.
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    sane = tf.debugging.Assert(
        tf.logical_and(tf.logical_and(height > 0, width > 0), pixels <= MAX_PIXELS),
        [
            "image_bytes has a picture of height and width",
            height,
            width,
            "and at most this many pixels pass",
            MAX_PIXELS,
        ],
    )
    with tf.control_dependencies([sane]):
        picture = tf.cond(
            is_jpeg,
            # Pillow's transform, not TensorFlow's faster and coarser one: both sides of a comparison see one picture.
            lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_png(encoded, channels=3),
        )
    resized = tf.image.resize(picture, [side, side], method="bilinear", antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


def _jpeg_size(encoded: Any) -> tuple[Any, Any]:
    shape = tf.image.extract_jpeg_shape(encoded)
    return shape[0], shape[1]


def _png_size(encoded: Any) -> tuple[Any, Any]:
    words = tf.io.decode_raw(tf.strings.substr(encoded, _PNG_SIZE_AT, 8), tf.int32, little_endian=False)
    return words[1], words[0]
