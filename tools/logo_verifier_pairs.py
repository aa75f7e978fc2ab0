"""What the verifier is taught on: pieces of photographs with a logo, with a plain shape, with neither."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fit_shape_background import GROUND, INK, busy_pictures, plain_pictures
from imagewarden_eval.datasets import find_photographs, groups, is_fitting, read_same_pictures
from imagewarden_eval.logo_scenes import photograph
from imagewarden_server import media
from imagewarden_server.matching.shapes import Template, background, look
from imagewarden_server.matching.types import Box
from imagewarden_server.media.drawings import LONG, SIDE, Pieces, Pose
from imagewarden_server.media.shapes import TURNS
from imagewarden_serving.logo_windows import boxes
from logo_verifier_drawings import Chance, Logo, Pixels, any_ink, in_ink, is_blank, met

WINDOWS = [Box(*window) for window in boxes((0.15, 0.21, 0.30, 0.43, 0.62, 0.85), (1.0, 0.6), 0.6)]
"""Where the embedding may see a logo: the windows of the model's output."""

_COLOUR_SHARE = 0.65
_PER_VIEW = 12
_LOOKS_PER_VIEW = 60
_TEMPLATES = 800
_PLAIN_TEMPLATES = 200
# What is pasted: its width as a share of the photograph's, its turn in degrees, how far it leans, how much is covered.
_WIDTHS = (0.085, 0.62)
_MAX_HEIGHT = 0.9
_MAX_TURN = 15.0
_MAX_LEAN = 0.08
_MAX_COVER = 0.2
_MIN_CONTRAST = 24.0
# A logo is pasted into a patch of the photograph, so much larger than itself, of this many pixels at most.
_PATCH = 1.8
_PATCH_SIDE = 130
# The picture is looked at smaller than it was made: 384 pixels of 640 or more.
_SEEN = (0.55, 1.0)
_QUALITIES = (40, 91)
# How far a place that was found lies from the true one: ln of its size, degrees, pixels of the drawing; times one of
# these.
_SIZE_OFF, _TURN_OFF, _PLACE_OFF = 0.11, 4.0, 2.1
_OFF = (0.6, 1.0, 1.3, 1.7)

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cuts:
    """Pieces of pictures.

    Attributes:
        pieces: uint8 [n, variants, 48, 48, 3]: each cut where it lies, and a little beside that.
        about: int64 [n]: the number of the logo, or of the plain shape, that each was cut for.
    """

    pieces: NDArray[np.uint8]
    about: NDArray[np.int64]


class Photographs:
    """The photographs to learn from, and views of them: few become many."""

    def __init__(self, folder: Path, exclude: Sequence[str]) -> None:
        """Those of the part for fitting that the model brings along: on the others of it scores are weighed.

        None of them shows what a photograph of another part shows.
        """
        names = {one.name: one for one in find_photographs([folder], exclude)}
        stands_for = groups(read_same_pictures(None))
        others = {stands_for.get(name, name) for name in names if not _is_taught(name)}
        kept = [name for name in names if _is_taught(name) and stands_for.get(name, name) not in others]
        if not kept:
            raise SystemExit(f"{folder} has no photographs to fit on; name a folder with more")
        pictures = [np.asarray(photograph(names[name])) for name in kept]
        self._count = len(pictures)
        self._pictures = pictures + [np.ascontiguousarray(one[:, ::-1]) for one in pictures]

    def __len__(self) -> int:
        return self._count

    def view(self, chance: Chance) -> Pixels:
        """One of them, mirrored or turned by chance: uint8 [h, w, 3], the longer side 640."""
        picture = self._pictures[int(chance.integers(len(self._pictures)))]
        if chance.random() < 0.1:
            picture = np.ascontiguousarray(np.rot90(picture, int(chance.integers(1, 4))))
        return picture


def with_logos(logos: Sequence[Logo], photographs: Photographs, count: int, variants: int, chance: Chance) -> Cuts:
    """Logos pasted into photographs, cut where they lie."""
    kinds = [[number for number, logo in enumerate(logos) if logo.plain is plain] for plain in (False, True)]

    def made() -> Iterator[tuple[Pieces, Pose, int]]:
        while True:
            kind = kinds[0] if chance.random() < _COLOUR_SHARE or not kinds[1] else kinds[1]
            number = int(kind[int(chance.integers(len(kind)))])
            pixels, printed = met(logos[number], chance)
            # What has lost all that makes it this logo teaches that any square is.
            if is_blank(pixels):
                continue
            pasted = _paste(photographs.view(chance), pixels, chance, printed=printed)
            if pasted is not None:
                yield *pasted, number

    return _cut(made(), count, variants, chance)


def plain_shapes() -> list[Pixels]:
    """Discs, rings, squares, polygons, bars, words and stripes: uint8 [h, w, 4], white, trimmed."""
    found = []
    for picture in plain_pictures() + busy_pictures():
        alpha = np.clip((picture.astype(np.float32) - GROUND) * (255 / (INK - GROUND)), 0, 255).astype(np.uint8)
        rows, columns = np.flatnonzero(alpha.max(1) > GROUND), np.flatnonzero(alpha.max(0) > GROUND)
        alpha = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        found.append(np.dstack([np.full((*alpha.shape, 3), 255, np.uint8), alpha]))
    return found


def with_shapes(shapes: Sequence[Pixels], photographs: Photographs, count: int, variants: int, chance: Chance) -> Cuts:
    """Plain shapes pasted into photographs as logos are, cut where they lie."""

    def made() -> Iterator[tuple[Pieces, Pose, int]]:
        while True:
            number = int(chance.integers(len(shapes)))
            shape = in_ink(shapes[number], any_ink(chance))
            pasted = _paste(photographs.view(chance), shape, chance, printed=True)
            if pasted is not None:
                yield *pasted, number

    return _cut(made(), count, variants, chance)


def anywhere(photographs: Photographs, count: int, chance: Chance) -> Cuts:
    """Photographs without logos, cut anywhere."""

    def made() -> Iterator[tuple[Pieces, Pose, int]]:
        while True:
            view = photographs.view(chance)
            scale = chance.uniform(0.5, 1) * chance.choice([0.5, 0.6, 0.75, 1.0])
            view = np.asarray(cv2.resize(view, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
            if chance.random() < 0.7:
                view = _compressed(view, chance)
            pieces = Pieces(view)
            height, width = view.shape[:2]
            for _ in range(_PER_VIEW):
                long = math.exp(chance.uniform(math.log(0.08), math.log(0.8))) * width
                x, y = chance.uniform(0.1, 0.9) * width, chance.uniform(0.1, 0.9) * height
                yield pieces, Pose(x, y, long, float(chance.choice(TURNS))), -1

    return _cut(made(), count, 1, chance)


def looked_at(logos: Sequence[Logo], photographs: Photographs, count: int, variants: int, chance: Chance) -> Cuts:
    """Photographs without logos, cut where the outline of a logo fits best around a window."""
    numbers = {False: [n for n, logo in enumerate(logos) if not logo.plain]}
    numbers[True] = [n for n, logo in enumerate(logos) if logo.plain]
    drawn: list[int] = []
    for plain, most in ((False, _TEMPLATES), (True, _PLAIN_TEMPLATES)):
        drawn += [int(number) for number in chance.permutation(numbers[plain])[:most]]
    templates = {number: _templates(logos[number]) for number in drawn}

    def made() -> Iterator[tuple[Pieces, Pose, int]]:
        while True:
            view = photographs.view(chance)
            if chance.random() < 0.5:
                share = chance.uniform(0.4, 0.9)
                height, width = view.shape[:2]
                left, top = (int(chance.uniform(0, 1 - share) * side) for side in (width, height))
                view = view[top : top + int(share * height), left : left + int(share * width)]
            shapes = media.Shapes(_compressed(view, chance))
            pieces = Pieces(shapes.pixels)
            for _ in range(_LOOKS_PER_VIEW):
                number = drawn[int(chance.integers(len(drawn)))]
                laid = look(shapes, templates[number], WINDOWS[int(chance.integers(len(WINDOWS)))])
                if laid is not None:
                    yield pieces, laid.pose, number

    return _cut(made(), count, variants, chance)


def _is_taught(name: str) -> bool:
    # Of the part for fitting, and what `imagewarden_eval.datasets.part` leaves out of it for others.
    return is_fitting(name) and hashlib.sha256(name.encode()).digest()[1] % 2 == 0


def _cut(made: Iterator[tuple[Pieces, Pose, int]], count: int, variants: int, chance: Chance) -> Cuts:
    cut = np.empty((count, variants, SIDE, SIDE, 3), np.uint8)
    about = np.empty(count, np.int64)
    for place, (pieces, pose, number) in zip(range(count), made, strict=False):
        about[place] = number
        cut[place, 0] = pieces.cut(pose)
        for variant in range(1, variants):
            cut[place, variant] = pieces.cut(_beside(pose, chance))
    return Cuts(cut, about)


def _beside(pose: Pose, chance: Chance) -> Pose:
    size, turn, x, y = chance.uniform(-1, 1, 4) * chance.choice(_OFF)
    pixel = pose.long / LONG * _PLACE_OFF
    return Pose(
        pose.x + x * pixel, pose.y + y * pixel, pose.long * math.exp(size * _SIZE_OFF), pose.turn + turn * _TURN_OFF
    )


def _compressed(picture: Pixels, chance: Chance) -> Pixels:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(chance.integers(*_QUALITIES))]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), quality)
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])


def _paste(view: Pixels, pixels: Pixels, chance: Chance, *, printed: bool) -> tuple[Pieces, Pose] | None:
    """A drawing pasted somewhere into a photograph, and where it lies; None where it cannot be seen.

    Args:
        view: uint8 [h, w, 3].
        pixels: uint8 [h, w, 4].
        chance: decides all.
        printed: whether another ink is taken where it cannot be seen.
    """
    height, width = view.shape[:2]
    wide = math.exp(chance.uniform(math.log(_WIDTHS[0]), math.log(_WIDTHS[1]))) * width
    scale = min(wide / pixels.shape[1], _MAX_HEIGHT * height / pixels.shape[0])
    size = np.array([pixels.shape[1], pixels.shape[0]]) * scale
    middle = [
        chance.uniform(one / 2, side - one / 2) if one < side else side / 2
        for one, side in zip(size, (width, height), strict=True)
    ]
    side = max(size) * _PATCH
    work = min(1.0, _PATCH_SIDE / side)
    patch = _patch(view, middle, side, work)
    size *= work
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size
    corners += chance.uniform(0, _MAX_LEAN, (4, 2)) * size * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    angle = math.radians(chance.uniform(-_MAX_TURN, _MAX_TURN))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    corners = (corners - corners.mean(0)) @ turn + len(patch) / 2
    laid = _laid(pixels, size, corners, len(patch))
    if chance.random() < 0.15:  # a pale print
        laid *= chance.uniform(0.6, 1)
    alpha = laid[..., 3:] / np.float32(255)
    if _contrast(laid, alpha, patch) < _MIN_CONTRAST:
        # Who prints in one colour takes one that can be seen there.
        laid[..., :3] = alpha * 255 - laid[..., :3]
        if not printed or _contrast(laid, alpha, patch) < _MIN_CONTRAST:
            return None
    shown = patch * (1 - alpha) + laid[..., :3]
    _cover(shown, view, corners, chance)
    picture = _compressed(np.clip(shown, 0, 255).astype(np.uint8), chance)
    seen = chance.uniform(*_SEEN)
    count = max(16, round(len(patch) * seen))
    picture = np.asarray(cv2.resize(picture, (count, count), interpolation=cv2.INTER_AREA), np.uint8)
    return Pieces(picture), _pose(corners, size, count / len(patch))


def _patch(view: Pixels, middle: Sequence[float], side: float, work: float) -> NDArray[np.float32]:
    """A square around a place of a photograph, smaller by `work`; the photograph's edge goes on beyond it."""
    count = max(24, round(side * work))
    while work < 0.7:  # halved first: no aliasing
        half = (max(1, view.shape[1] // 2), max(1, view.shape[0] // 2))
        middle = [place * small / whole for place, small, whole in zip(middle, half, view.shape[1::-1], strict=True)]
        view = np.asarray(cv2.resize(view, half, interpolation=cv2.INTER_AREA), np.uint8)
        work, side = work * 2, side / 2
    lay = np.array([[1 / work, 0, middle[0] - side / 2], [0, 1 / work, middle[1] - side / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(view, lay, (count, count), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(patch, np.float32)


def _laid(pixels: Pixels, size: NDArray[np.float64], corners: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    """A drawing with its corners [4, 2] in a square: float32 [side, side, 4], colours multiplied by alpha."""
    drawn = pixels.astype(np.float32)
    drawn[..., :3] *= drawn[..., 3:] / 255
    smaller = max(size) / max(pixels.shape[:2])
    if smaller < 0.75:  # no aliasing
        target = (max(2, round(pixels.shape[1] * smaller)), max(2, round(pixels.shape[0] * smaller)))
        drawn = np.asarray(cv2.resize(drawn, target, interpolation=cv2.INTER_AREA), np.float32)
    height, width = drawn.shape[:2]
    own = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    lay = cv2.getPerspectiveTransform(own, corners.astype(np.float32))
    return np.asarray(cv2.warpPerspective(drawn, lay, (side, side), flags=cv2.INTER_LINEAR), np.float32)


def _contrast(laid: NDArray[np.float32], alpha: NDArray[np.float32], patch: NDArray[np.float32]) -> float:
    red, green, blue = np.abs(laid[..., :3] - patch * alpha).transpose(2, 0, 1)
    difference = np.maximum(np.maximum(red, green), blue).sum()
    return float(difference) / max(float(alpha.sum()), 1.0)


def _cover(picture: NDArray[np.float32], view: Pixels, corners: NDArray[np.float64], chance: Chance) -> None:
    """Half of what is pasted is covered from one side by a piece of the photograph: up to a fifth."""
    if chance.random() >= 0.5:
        return
    low = np.maximum(corners.min(0).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int), len(picture))
    axis, first = int(chance.integers(2)), bool(chance.integers(2))
    covered = round(float(high[axis] - low[axis]) * chance.uniform(0, _MAX_COVER))
    if first:
        high[axis] = low[axis] + covered
    else:
        low[axis] = high[axis] - covered
    across, down = (int(side) for side in high - low)
    if min(across, down) < 1 or view.shape[0] < down or view.shape[1] < across:
        return
    left, top = int(chance.integers(view.shape[1] - across + 1)), int(chance.integers(view.shape[0] - down + 1))
    picture[low[1] : high[1], low[0] : high[0]] = view[top : top + down, left : left + across]


def _pose(corners: NDArray[np.float64], size: NDArray[np.float64], smaller: float) -> Pose:
    """The scale and turn that come closest to a drawing's corners."""
    middle = corners.mean(0)
    flat = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * size
    own = flat[:, 0] - 1j * flat[:, 1]
    laid = (corners - middle)[:, 0] - 1j * (corners - middle)[:, 1]
    ratio = complex((own.conj() * laid).sum() / (np.abs(own) ** 2).sum())
    x, y = (float(value) * smaller for value in middle)
    turn = math.degrees(math.atan2(ratio.imag, ratio.real))
    return Pose(x, y, float(max(size)) * abs(ratio) * smaller, turn)


def _templates(logo: Logo) -> list[Template]:
    """The outlines of a logo as they are laid over pictures.

    Without what pictures without it are like, which takes long and does not change where it fits best.
    """
    pixels = logo.pixels
    alpha = pixels[..., 3].astype(np.float32)
    contrast = (np.abs(pixels[..., :3].astype(np.float32) - 255).max(-1) * alpha).sum() / alpha.sum()
    ground = (255, 255, 255) if contrast >= _MIN_CONTRAST else (24, 24, 24)
    found = []
    for outline in media.outlines(media.Rendering(pixels, ground)):
        inside = outline.inside.astype(np.float32)
        flat = ((outline.cells - background().mean) * inside[..., None]).reshape(len(TURNS), -1)
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
        rows = np.ascontiguousarray(flat.reshape(len(TURNS), inside.shape[1], -1).transpose(1, 2, 0))
        covered = np.ascontiguousarray(inside.reshape(len(TURNS), -1).T)
        found.append(Template(rows, covered, outline.aspect, 0.0, 1.0))
    return found
