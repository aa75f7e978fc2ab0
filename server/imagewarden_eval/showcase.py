"""`eval panel`: an inset, a crop and a logo in a scene, each with the box that the server answered, as one picture.

The photographs are scikit-image's own, in the public domain or CC0: astronaut, chelsea, coffee, rocket.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from imagewarden import BankKind
from imagewarden_eval import panels
from imagewarden_eval.attacks import BY_NAME, attacked
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.logo_files import LogoFile, drawings
from imagewarden_eval.logo_scenes import draw
from imagewarden_eval.service import Service, serving, wait_for_model

_SIDE = 300
_COPIES, _BRANDS = "panel-copies", "panel-brands"
_SEED = 5


@dataclass(frozen=True)
class Options:
    """What is asked: the command's options."""

    logos: Path
    slug: str
    out: Path
    model_base_path: Path | None = None
    model_address: str | None = None


def photograph(name: str) -> Image.Image:
    """One of scikit-image's photographs, as RGB pixels."""
    data = (resources.files("skimage") / "data" / name).read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def run(options: Options) -> dict[str, Any]:
    """Register two photographs and a logo, check three scenes, and draw what came of it; answers the scores.

    Raises:
        EvaluationError: there is no such logo, or a scene was not recognised.
    """
    svg = drawings(options.logos).get(options.slug)
    if svg is None:
        raise EvaluationError(f"{options.logos} has no logo {options.slug!r}; name one with --slug")
    logo = LogoFile(options.slug, options.slug, svg)
    with serving(options.model_base_path, model_address=options.model_address) as service:
        return _drawn(service, logo, options.out)


def _drawn(service: Service, logo: LogoFile, out: Path) -> dict[str, Any]:
    astronaut, cat = photograph("astronaut.png"), photograph("chelsea.png")
    service.client.create_bank(_COPIES, BankKind.BANNED)
    service.client.create_bank(_BRANDS, BankKind.BRAND)
    wait_for_model(service, _jpeg(cat))
    for name, image in (("astronaut", astronaut), ("cat", cat)):
        service.client.add_image(_COPIES, _jpeg(image), external_id=name)
    service.client.register_logo(_BRANDS, logo.brand, [logo.svg], external_id=logo.brand)

    coffee: list[Callable[[], Image.Image]] = [lambda: photograph("coffee.png")]
    inset = attacked(BY_NAME["inset-50"], astronaut, "a", _SEED, coffee)
    scenes = (
        ("astronaut", astronaut, "an inset at half of the width", inset),
        ("cat", cat, "a crop to 40% of the area", attacked(BY_NAME["crop-40"], cat, "c", _SEED)),
        (logo.brand, _on_white(draw(logo.svg)), "a logo in a scene", _jpeg(_with_logo(logo))),
    )
    above, below, scores = [], [], {}
    for name, image, says, data in scenes:
        candidate = service.check(data, [_COPIES, _BRANDS]).candidates.get(name)
        if candidate is None:
            raise EvaluationError(f"{says} was not recognised at the shipped thresholds: there is nothing to show")
        scores[name] = {"says": says, **candidate.scores, "box": candidate.box}
        text = ", ".join(f"{signal} {value:.3g}" for signal, value in candidate.scores.items())
        above.append(panels.Tile(image, f"registered: {name}"))
        below.append(panels.Tile(data, f"{says}\n{text}", candidate.box))
    panels.save([above, below], out, _SIDE)
    return scores


def _on_white(logo: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", (logo.width + 80, logo.height + 80), (255, 255, 255))
    canvas.paste(logo, (40, 40), logo)
    return canvas


def _with_logo(logo: LogoFile) -> Image.Image:
    """A photograph with the logo a quarter of its width, turned a little."""
    scene = photograph("rocket.jpg")
    drawn = draw(logo.svg)
    width = round(scene.width * 0.25)
    small = drawn.resize((width, round(drawn.height * width / drawn.width)), Image.Resampling.LANCZOS)
    small = small.rotate(8, Image.Resampling.BICUBIC, expand=True)
    scene.paste(small, (round(scene.width * 0.62), round(scene.height * 0.18)), small)
    return scene
