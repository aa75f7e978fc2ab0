"""Fetching pinned packages: a real executable named npm stands for the registry."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from imagewarden_serving import npm

CONTENT = b"a photograph's bytes"


def tarball(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tarball(tmp_path / "source.tgz", {"package/data/image.jpg": CONTENT})


@pytest.fixture
def package(source: Path) -> npm.Package:
    return npm.Package("@scope/pictures", "1.2.3", npm.integrity_of(source), "MIT")


@pytest.fixture
def path_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install_npm(folder: Path, body: str) -> Path:
    """An npm that writes down its arguments and the folder that they name, then does `body`."""
    log = folder / "log"
    script = folder / "npm"
    script.write_text(
        f"#!{sys.executable}\nimport shutil, sys\nfrom pathlib import Path\n"
        f"Path({str(log)!r}).write_text(' '.join(sys.argv[1:]))\n"
        f"destination = Path(sys.argv[sys.argv.index('--pack-destination') + 1])\n{body}\n"
    )
    script.chmod(0o755)
    return log


def test_a_package_is_fetched_once_and_its_scripts_never_run(
    package: npm.Package, source: Path, path_without_npm: Path, tmp_path: Path
) -> None:
    log = install_npm(path_without_npm, f"shutil.copy({str(source)!r}, destination / 'any-name.tgz')")
    cache = tmp_path / "deep" / "cache"

    kept = npm.fetch(package, cache)

    assert kept == cache / "scope-pictures-1.2.3.tgz"
    assert npm.read_member(kept, "data/image.jpg") == CONTENT
    assert log.read_text().startswith("pack @scope/pictures@1.2.3 --ignore-scripts ")
    assert [path.name for path in cache.iterdir()] == [kept.name], "nothing else may be left in the cache"
    (path_without_npm / "npm").unlink()
    assert npm.fetch(package, cache) == kept, "what is cached needs no npm"


def test_a_changed_package_is_refused_with_both_digests_and_not_kept(
    package: npm.Package, path_without_npm: Path, tmp_path: Path
) -> None:
    other = tarball(tmp_path / "other.tgz", {"package/data/image.jpg": b"something else"})
    install_npm(path_without_npm, f"shutil.copy({str(other)!r}, destination / 'x.tgz')")
    cache = tmp_path / "cache"

    with pytest.raises(npm.NpmError) as caught:
        npm.fetch(package, cache)

    assert npm.integrity_of(other) in str(caught.value)
    assert package.integrity in str(caught.value)
    assert list(cache.iterdir()) == []


def test_a_tarball_that_was_changed_in_the_cache_is_fetched_anew(
    package: npm.Package, source: Path, path_without_npm: Path, tmp_path: Path
) -> None:
    install_npm(path_without_npm, f"shutil.copy({str(source)!r}, destination / 'x.tgz')")
    kept = npm.fetch(package, tmp_path / "cache")
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")

    assert npm.integrity_of(npm.fetch(package, tmp_path / "cache")) == package.integrity


def test_without_npm_the_error_says_what_to_install(
    package: npm.Package, path_without_npm: Path, tmp_path: Path
) -> None:
    assert list(path_without_npm.iterdir()) == []
    with pytest.raises(npm.NpmError, match=r"npm was not found.*@scope/pictures.*install Node\.js"):
        npm.fetch(package, tmp_path / "cache")


def test_without_a_network_the_error_says_what_npm_said(
    package: npm.Package, path_without_npm: Path, tmp_path: Path
) -> None:
    said = (
        "npm warn config noise\\nnpm error code ENOTFOUND\\nnpm error network request failed\\n"
        "npm error A complete log of this run can be found in: /home/me/secret.log\\n"
    )
    install_npm(path_without_npm, f"sys.stderr.write('{said}'); sys.exit(1)")
    with pytest.raises(npm.NpmError) as caught:
        npm.fetch(package, tmp_path / "cache")
    message = str(caught.value)
    assert "code ENOTFOUND network request failed; check the network" in message
    assert "noise" not in message
    assert "secret.log" not in message


def test_an_npm_that_writes_nothing_is_an_error(package: npm.Package, path_without_npm: Path, tmp_path: Path) -> None:
    install_npm(path_without_npm, "")
    with pytest.raises(npm.NpmError, match="it said nothing"):
        npm.fetch(package, tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_setting(
    package: npm.Package, source: Path, path_without_npm: Path
) -> None:
    assert path_without_npm.is_dir()
    with pytest.raises(npm.NpmError, match="IMAGEWARDEN_CACHE"):
        npm.fetch(package, source / "not-a-folder")


@pytest.mark.parametrize("name", ["data/missing.jpg", "../data/image.jpg", "/etc/passwd", "link", ""])
def test_only_regular_files_of_the_package_are_read(source: Path, name: str) -> None:
    with pytest.raises(npm.NpmError, match=r"has no file|no regular file"):
        npm.read_member(source, name)


def test_a_member_over_the_limit_is_refused(source: Path) -> None:
    with pytest.raises(npm.NpmError, match=f"has {len(CONTENT)} bytes, more than 3"):
        npm.read_member(source, "data/image.jpg", limit=3)


@pytest.mark.parametrize("keep", [0, 5, 40])
def test_a_damaged_tarball_is_an_error(source: Path, keep: int) -> None:
    source.write_bytes(source.read_bytes()[:keep])
    with pytest.raises(npm.NpmError, match=r"cannot be read"):
        npm.read_member(source, "data/image.jpg")


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("IMAGEWARDEN_CACHE", raising=False)
    assert npm.cache_folder() == tmp_path / "home/.cache/imagewarden/npm"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert npm.cache_folder() == tmp_path / "xdg/imagewarden/npm"
    monkeypatch.setenv("IMAGEWARDEN_CACHE", str(tmp_path / "own"))
    assert npm.cache_folder() == tmp_path / "own/npm"


def test_fetching_imports_neither_tensorflow_nor_numpy() -> None:
    code = (
        "import sys; from imagewarden_serving import npm, card; "
        "print(sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
