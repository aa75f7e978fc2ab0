"""The verifier's network: learned from pairs of a piece and a drawing, and written as ONNX. Needs torch and onnx."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from imagewarden_server.matching.verifier import CHANNELS, Drawn, channels, prepare
from imagewarden_server.media.drawings import SIDE
from logo_verifier_drawings import Chance, Logo, Pixels, appearances, is_flat
from logo_verifier_pairs import Cuts, Report

BATCH = 192
TORCH = str(torch.__version__)

_WIDTHS = (16, 32, 64)
_HIDDEN = 64
_RATE = 3e-3
_DECAY = 0.02
_WARM = 0.02
_OPSET = 13
_SAME_NUMBERS = 1e-3
# When pairs are mined, as shares of the steps; how many are tried, how many of them kept, and kept in all.
_MINED_AT = (0.12, 0.26, 0.4, 0.54, 0.68, 0.8)
_TRIED = 36_000
_TAKEN = 1_440
_HARD = 10_440
_SCORED = 256
# Of the drawings that look most like one so many; and what two differ by at most that are the same, of 255.
_NEIGHBOURS = 24
_ALIKE = 12.0
_NOISES = 400
# Logos, places where an outline fits, and any places or plain shapes.
_VALIDATED = (1_500, 4_000, 2_000)
# What a batch has of each: shows its logo; a place the outline fits; a mined pair; any place; another logo; a plain
# shape; its logo, turned or mirrored.
_KINDS = ("own", "look", "hard", "place", "other", "shape", "turned")
_WITH_LOGO = {"own", "other", "turned"}
_SHARES = (0.35, 0.13, 0.22, 0.08, 0.13, 0.05, 0.04)
# Where red, green and blue begin in the 14 channels: see `imagewarden_server.matching.verifier.CHANNELS`.
_COLOURS = (0, 3, 8, 11)


@dataclass(frozen=True, slots=True)
class Lessons:
    """All there is to learn from.

    Attributes:
        logos: the drawings.
        own: cuts with the logo they are about.
        looks: cuts without a logo where the outline of the one they are about fits.
        places: cuts without a logo.
        shapes: cuts with a plain shape.
        drawn_shapes: uint8 [48, 48, 4] of each plain shape, as a logo is kept.
    """

    logos: Sequence[Logo]
    own: Cuts
    looks: Cuts
    places: Cuts
    shapes: Cuts
    drawn_shapes: Sequence[Pixels]


class _Convolution(nn.Module):  # type: ignore[misc]
    """A convolution, normalised by the batch, and cut at zero if asked."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, *, cut: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)
        self.cut = cut

    def forward(self, seen: Any) -> Any:
        made = self.norm(self.convolution(seen))
        return torch.relu(made) if self.cut else made


class _Residual(nn.Module):  # type: ignore[misc]
    """Two convolutions beside a straight way."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.first = _Convolution(count, count)
        self.second = _Convolution(count, count, cut=False)

    def forward(self, seen: Any) -> Any:
        return torch.relu(seen + self.second(self.first(seen)))


class Network(nn.Module):  # type: ignore[misc]
    """float32 [n, 14, 48, 48] to logits [n]: small enough for tens of pairs a check."""

    def __init__(self) -> None:
        super().__init__()
        low, middle, high = _WIDTHS
        self.features = nn.Sequential(
            _Convolution(CHANNELS, low, 2),
            _Convolution(low, middle, 2),
            _Residual(middle),
            _Convolution(middle, high, 2),
            _Residual(high),
        )
        self.head = nn.Sequential(nn.Linear(2 * high, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))

    def forward(self, seen: Any) -> Any:
        """The logits of pairs."""
        made = self.features(seen)
        return self.head(torch.cat([made.mean((2, 3)), made.amax((2, 3))], 1))[:, 0]


class Teacher:
    """Draws pairs, takes steps, and mines the pairs that the network errs on. The same for the same seed."""

    def __init__(self, lessons: Lessons, steps: int, seed: int) -> None:
        torch.set_num_threads(1)  # sums by several threads come out in another order each time
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True)
        self._lessons = lessons
        self._steps = steps
        self._chance = np.random.default_rng(seed)
        self._drawn: list[Drawn] = [prepare(logo.drawn) for logo in lessons.logos]
        self._brands = [logo.brand for logo in lessons.logos]
        tested = np.array([logo.tested for logo in lessons.logos])
        self._tested = tested
        self._learned = np.flatnonzero(~tested)
        self._coloured = np.flatnonzero(~tested & ~np.array([logo.plain for logo in lessons.logos]))
        self._own, self._own_tested = _parted(lessons.own, tested)
        self._looks, self._looks_tested = _parted(lessons.looks, tested)
        self._like_logo, self._like_shape = self._neighbours()
        self._hard: list[tuple[Pixels, int]] = []
        self._noises = self._chance.normal(0, 1, (_NOISES, SIDE, SIDE, 3)).astype(np.float32)
        self.network = Network().to(memory_format=torch.channels_last)

    def teach(self, report: Report) -> None:
        """Take all steps: the rate rises at first, then falls as a cosine does."""
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=_RATE, weight_decay=_DECAY)
        mined_at = {round(share * self._steps) for share in _MINED_AT}
        losses: list[float] = []
        for step in range(self._steps):
            if step in mined_at:
                report(f"step {step}: {self._mine()} pairs mined")
            done = step / self._steps
            for group in optimizer.param_groups:
                fallen = 0.5 * (1 + math.cos(math.pi * done)) + 0.004
                group["lr"] = _RATE * min(1.0, done / _WARM + 0.05) * fallen
            seen, shows = self._batch()
            self.network.train()
            loss = nn.functional.binary_cross_entropy_with_logits(self._logits(seen), torch.from_numpy(shows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.item()))
            if (step + 1) % 200 == 0:
                text = f"step {step + 1} of {self._steps}: loss {np.mean(losses[-200:]):.4f}"
                report(text + (f", {self.validate()}" if (step + 1) % 800 == 0 else ""))

    def validate(self) -> dict[str, float]:
        """How many logos of brands that are not learned from are found, at how many false alarms."""
        chance = np.random.default_rng(9)
        own = self._own_tested[: _VALIDATED[0]]
        looks = self._looks_tested[: _VALIDATED[1]]
        right = self._score(self._lessons.own.pieces[own, 0], self._lessons.own.about[own])
        wrong = self._score(self._lessons.looks.pieces[looks, 0], self._lessons.looks.about[looks])
        tested = np.flatnonzero(self._tested)
        places = self._lessons.places.pieces[: _VALIDATED[2], 0]
        anywhere = self._score(places, chance.choice(tested, len(places)))
        shapes = np.arange(min(_VALIDATED[2], len(self._lessons.shapes.about)))
        against = [self._like(self._like_shape, int(self._lessons.shapes.about[one]), chance) for one in shapes]
        plain = self._score(self._lessons.shapes.pieces[shapes, 0], np.array(against))
        found = {f"recall_at_{rate:g}": float((right > np.quantile(wrong, 1 - rate)).mean()) for rate in (1e-2, 1e-3)}
        found["recall_at_0.01_of_any_place"] = float((right > np.quantile(anywhere, 0.99)).mean())
        found["recall_at_0.05_of_plain_shapes"] = float((right > np.quantile(plain, 0.95)).mean())
        return {name: round(value, 4) for name, value in found.items()} | {
            "logos": len(own),
            "hard_negatives": len(looks),
        }

    def _neighbours(self) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
        """The drawings that look most like each drawing, and most like each plain shape; none of a brand tested."""
        frames = [logo.drawn for logo in self._lessons.logos]
        mean = appearances(frames).mean(0)
        learned = self._learned
        logos = appearances(frames, mean)
        shapes = appearances(self._lessons.drawn_shapes, mean)
        of_logos = [learned[np.argsort(-(logos[learned] @ one))[: _NEIGHBOURS + 1]] for one in logos]
        flat = {int(number) for number in learned if is_flat(self._lessons.logos[int(number)].pixels)}
        alphas = np.stack([one[..., 3] for one in frames]).astype(np.int16)
        of_shapes = []
        for number, one in enumerate(shapes):
            order = learned[np.argsort(-(logos[learned] @ one))[: 2 * _NEIGHBOURS]]
            apart = np.abs(alphas[order] - self._lessons.drawn_shapes[number][..., 3]).mean((1, 2))
            # A logo that is this very shape is left out: both answers would be right.
            fit = [far > _ALIKE or int(logo) not in flat for logo, far in zip(order, apart, strict=True)]
            of_shapes.append(order[np.array(fit)][:_NEIGHBOURS])
        return of_logos, of_shapes

    def _like(self, neighbours: Sequence[NDArray[np.int64]], number: int, chance: Chance) -> int:
        """A logo that looks like another, or like a shape; four times in ten any."""
        near = neighbours[number]
        pool = near if len(near) and chance.random() < 0.6 else self._learned
        return int(pool[int(chance.integers(len(pool)))])

    def _without(self, kind: str) -> tuple[Pixels, int]:
        """A piece without any logo, and the number of one that it is held against."""
        lessons, chance = self._lessons, self._chance
        if kind == "hard" and self._hard:
            return self._hard[int(chance.integers(len(self._hard)))]
        if kind == "place":
            one = int(chance.integers(len(lessons.places.about)))
            return _variant(lessons.places, one, chance), int(self._any_logo(1)[0])
        if kind == "shape":
            one = int(chance.integers(len(lessons.shapes.about)))
            logo = self._like(self._like_shape, int(lessons.shapes.about[one]), chance)
            return _variant(lessons.shapes, one, chance), logo
        one = int(self._looks[int(chance.integers(len(self._looks)))])
        return _variant(lessons.looks, one, chance), int(lessons.looks.about[one])

    def _pair(self, kind: str) -> tuple[Pixels, int, bool] | None:
        """A piece, the number of a logo, and whether it shows it; None where that cannot be said."""
        lessons, chance = self._lessons, self._chance
        if kind not in _WITH_LOGO:
            return *self._without(kind), False
        one = int(self._own[int(chance.integers(len(self._own)))])
        piece, own = _variant(lessons.own, one, chance), int(lessons.own.about[one])
        if kind == "own":
            return piece, own, True
        if kind == "other":
            logo = self._like(self._like_logo, own, chance)
            return None if self._brands[logo] == self._brands[own] else (piece, logo, False)
        turns = int(chance.integers(4))
        drawn = lessons.logos[own].drawn
        # Turned or mirrored it is another logo, unless it looks the same.
        same = np.abs(_turned(drawn, turns).astype(np.int16) - drawn).mean() < _ALIKE
        return None if same else (_turned(piece, turns), own, False)

    def _any_logo(self, count: int) -> NDArray[np.int64]:
        coloured = self._chance.random(count) < 0.6
        return np.where(coloured, self._chance.choice(self._coloured, count), self._chance.choice(self._learned, count))

    def _batch(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Pairs as the network sees them, float32 [n, 14, 48, 48], and whether each shows its logo, 0 or 1."""
        chance = self._chance
        pairs = [self._pair(str(kind)) for kind in chance.choice(_KINDS, BATCH, p=_SHARES)]
        known = [one for one in pairs if one is not None]
        pieces = self._varied(np.stack([piece for piece, _, _ in known]))
        shows = np.array([shown for _, _, shown in known], np.float32)
        seen = np.stack([channels(one, self._drawn[logo]) for one, (_, logo, _) in zip(pieces, known, strict=True)])
        # Both turned and mirrored, their colours exchanged: the same answer.
        for number, some in enumerate(np.array_split(chance.permutation(len(seen)), 8)):
            part = seen[some]
            part = part[..., ::-1] if number & 1 else part
            part = part[:, :, ::-1] if number & 2 else part
            part = part.swapaxes(2, 3) if number & 4 else part
            if chance.random() < 0.5:
                order = np.arange(CHANNELS)
                colours = chance.permutation(3)
                for first in _COLOURS:
                    order[first : first + 3] = first + colours
                part = part[:, order]
            seen[some] = part
        return seen, shows

    def _varied(self, pieces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pieces in another light, half of them with noise."""
        chance, count = self._chance, len(pieces)
        varied = pieces.astype(np.float32) - 128
        varied *= chance.uniform(0.75, 1.25, (count, 1, 1, 1)) * chance.uniform(0.92, 1.08, (count, 1, 1, 3))
        varied += 128 + chance.uniform(-25, 25, (count, 1, 1, 1))
        noisy = chance.permutation(count)[: count // 2]
        strength = chance.uniform(0, 5, (len(noisy), 1, 1, 1)).astype(np.float32)
        varied[noisy] += self._noises[chance.integers(_NOISES, size=len(noisy))] * strength
        return np.clip(varied, 0, 255).astype(np.uint8)

    def _mine(self) -> int:
        """Pieces without a logo held against any logos: the pairs of the highest scores are learned from next."""
        chance, lessons = self._chance, self._lessons
        logos = self._any_logo(_TRIED)
        of_places = chance.random(_TRIED) < 0.7
        places = chance.integers(len(lessons.places.about), size=_TRIED)
        looks = chance.integers(len(lessons.looks.about), size=_TRIED)
        tried = np.stack(
            [
                lessons.places.pieces[place, 0] if anywhere else lessons.looks.pieces[look, 0]
                for anywhere, place, look in zip(of_places, places, looks, strict=True)
            ]
        )
        best = np.argsort(-self._score(tried, logos), kind="stable")[:_TAKEN]
        self._hard = (self._hard + [(tried[one], int(logos[one])) for one in best])[-_HARD:]
        return len(best)

    def _score(self, pieces: NDArray[np.uint8], logos: NDArray[np.int64]) -> NDArray[np.float32]:
        self.network.eval()
        found = []
        with torch.no_grad():
            for start in range(0, len(pieces), _SCORED):
                part = zip(pieces[start : start + _SCORED], logos[start : start + _SCORED], strict=True)
                found.append(self._logits(np.stack([channels(one, self._drawn[logo]) for one, logo in part])).numpy())
        return np.concatenate(found)

    def _logits(self, seen: NDArray[np.float32]) -> Any:
        return self.network(torch.from_numpy(seen).contiguous(memory_format=torch.channels_last))


def write(network: Network, out: Path) -> float:
    """Write a network as ONNX; how far what OpenCV makes of it is from it at most.

    Raises:
        SystemExit: OpenCV makes other numbers of it.
    """
    network = network.to("cpu").eval()
    for module in list(network.modules()):
        if isinstance(module, _Convolution):
            module.convolution = fuse_conv_bn_eval(module.convolution, module.norm)
            module.norm = nn.Identity()
    seen = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (20, CHANNELS, SIDE, SIDE)).astype(np.float32))
    made = io.BytesIO()
    names = {"input_names": ["pairs"], "output_names": ["logits"]}
    axes = {"pairs": {0: "pairs"}, "logits": {0: "pairs"}}
    torch.onnx.export(network, (seen,), made, dynamic_axes=axes, opset_version=_OPSET, dynamo=False, **names)
    onnx.checker.check_model(onnx.load_from_string(made.getvalue()))
    with torch.no_grad():
        expected = network(seen).numpy()
    served = cv2.dnn.readNetFromONNX(np.frombuffer(made.getvalue(), np.uint8))
    served.setInput(seen.numpy())
    difference = float(np.abs(np.asarray(served.forward()).ravel() - expected).max())
    if difference > _SAME_NUMBERS:
        raise SystemExit(f"OpenCV {cv2.__version__} makes numbers of the network that differ by {difference:g}")
    out.write_bytes(made.getvalue())
    return difference


def _parted(cuts: Cuts, tested: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of the cuts to learn from, and of those to validate on."""
    held = tested[cuts.about]
    return np.flatnonzero(~held), np.flatnonzero(held)


def _variant(cuts: Cuts, number: int, chance: Chance) -> Pixels:
    piece: Pixels = cuts.pieces[number, int(chance.integers(cuts.pieces.shape[1]))]
    return piece


def _turned(pixels: Pixels, turn: int) -> Pixels:
    """Mirrored, upside down, a quarter or a half turned."""
    turned = np.flip(pixels, 1 - turn) if turn < 2 else np.rot90(pixels, turn - 1)
    return np.asarray(turned, np.uint8)
