"""Logos as vector files: read from an npm package or a folder, sorted into brands, one file a brand."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagewarden_eval.errors import EvaluationError

MEASURED_SHARE = 4
MAX_ASPECT = 5.0
_SUFFIXES = ("-icon", "-wordmark", "-dark", "-light")
_SEPARATORS = re.compile(r"[-_. ]")
_SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {} {}">{}</svg>'


@dataclass(frozen=True, slots=True)
class LogoFile:
    """One brand's logo.

    Attributes:
        brand: the brand's word.
        slug: the file's name.
        svg: the file.
        redrawn: another drawing of the brand's logo in one colour, where a second package has one.
    """

    brand: str
    slug: str
    svg: bytes
    redrawn: bytes | None = None


def brand_of(slug: str) -> str:
    """A brand's word: the slug in lower case, without the words for its variants and without separators."""
    word = slug.lower()
    while any(word.endswith(suffix) and len(word) > len(suffix) for suffix in _SUFFIXES):
        word = next(word.removesuffix(suffix) for suffix in _SUFFIXES if word.endswith(suffix))
    return _SEPARATORS.sub("", word)


def is_measured(brand: str) -> bool:
    """Whether a brand is measured on, one in four by the SHA-256 of its word; the others are for fitting."""
    return hashlib.sha256(brand.encode()).digest()[0] % MEASURED_SHARE == 0


def drawings(folder: Path) -> dict[str, bytes]:
    """The SVG files by slug: of an unpacked package of Iconify's (icons.json), or of a folder of .svg files."""
    collection = folder / "icons.json"
    if collection.is_file():
        try:
            icons = json.loads(collection.read_text(encoding="utf-8"))
            sides = (icons.get("width", 256), icons.get("height", 256))
            return {
                slug: _SVG.format(icon.get("width", sides[0]), icon.get("height", sides[1]), icon["body"]).encode()
                for slug, icon in icons["icons"].items()
            }
        except (ValueError, KeyError, AttributeError) as error:
            raise EvaluationError(
                f"{collection} is no collection of icons as Iconify's packages have: {error!r}"
            ) from error
    place = folder / "icons" if (folder / "icons").is_dir() else folder
    found = {path.stem: path.read_bytes() for path in sorted(place.glob("*.svg"))}
    if not found:
        raise EvaluationError(
            f"{folder} has neither icons.json nor .svg files; name the unpacked package of @iconify-json/logos"
        )
    return found


def _aspect(svg: bytes) -> float:
    """The longer side by the shorter, of the view box; 1 where there is none."""
    box = re.search(rb'viewBox="\s*[-\d.]+[\s,]+[-\d.]+[\s,]+([\d.]+)[\s,]+([\d.]+)', svg)
    if box is None or not float(box[1]) or not float(box[2]):
        return 1.0
    aspect = float(box[1]) / float(box[2])
    return max(aspect, 1 / aspect)


def read_logos(folder: Path, redrawn: Path | None = None, *, measured: bool = True) -> list[LogoFile]:
    """One file a brand: NAME-icon where there is one, else the shortest NAME; no side over five times the other.

    Args:
        folder: the unpacked package of colour logos, or a folder of .svg files.
        redrawn: the unpacked package simple-icons: the same brands' logos in one colour, as another hand drew them.
        measured: the brands to measure on; False: those to fit on.

    Raises:
        EvaluationError: the folder has no logos.
    """
    brands: dict[str, list[str]] = {}
    files = drawings(folder)
    for slug in files:
        brands.setdefault(brand_of(slug), []).append(slug)
    others = _by_brand(drawings(redrawn)) if redrawn is not None else {}
    found = []
    for brand, slugs in sorted(brands.items()):
        if is_measured(brand) is not measured:
            continue
        fitting = [slug for slug in slugs if _aspect(files[slug]) <= MAX_ASPECT]
        if fitting:
            slug = min(fitting, key=_preference)
            found.append(LogoFile(brand, slug, files[slug], others.get(brand)))
    return found


def chosen(logos: Sequence[LogoFile], count: int = 0) -> list[LogoFile]:
    """So many of the logos, the same for the same logos; 0: all, in that order.

    Not the first by name: families of brands of one company stand together there.
    """
    return sorted(logos, key=lambda one: hashlib.sha256(one.slug.encode()).digest())[: count or len(logos)]


def collected(
    folders: Sequence[Path], left_out: Sequence[Path] = (), count: int = 0, *, measured: bool = True
) -> list[LogoFile]:
    """Logos of several folders, one a brand: the first folder's in the order of `chosen`, then what others add.

    Args:
        folders: packages or folders, as `read_logos` takes; a brand's logo is the first one's that has the brand.
        left_out: no brand that one of these has, as where a choice was made in view of them.
        count: so many at most; 0: all.
        measured: the brands to measure on; False: those to fit on.

    Raises:
        EvaluationError: a folder has no logos, or none is left.
    """
    known = {brand_of(slug) for folder in left_out for slug in drawings(folder)}
    found: list[LogoFile] = []
    for folder in folders:
        new = [one for one in chosen(read_logos(folder, measured=measured)) if one.brand not in known]
        known.update(one.brand for one in new)
        found += new
    if not found:
        names = ", ".join(map(str, folders))
        raise EvaluationError(f"no brand of {names} is left to {'measure' if measured else 'fit'} on; name more logos")
    return found[: count or len(found)]


def _preference(slug: str) -> tuple[bool, int, str]:
    return (not slug.endswith("-icon"), len(slug), slug)


def _by_brand(files: Mapping[str, bytes]) -> dict[str, bytes]:
    slugs: Sequence[str] = sorted(files, key=lambda slug: (-len(slug), slug))
    return {brand_of(slug): files[slug] for slug in slugs}
