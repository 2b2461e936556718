"""Files of the catalog: on the disk, whole, when they have a name."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest
from aftermap.cluster.catalog.files import Adding, Files, settled


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What the disk was told to hold, in order."""
    found, sync = [], os.fsync

    def told(handle: int) -> None:
        found.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        sync(handle)

    monkeypatch.setattr(os, "fsync", told)
    return found


def test_a_file_its_folder_and_the_folder_of_that_are_on_the_disk(
    tmp_path: Path, synced: list[Path]
) -> None:
    files = Files(tmp_path / "files")
    name = Adding(files).put(b"pixels", "png")
    assert name == hashlib.sha256(b"pixels").hexdigest() + ".png"
    assert synced[1:] == [files.folder, files.folder / name[:2]]
    synced.clear()
    Adding(files).put_card(name, "{}")
    assert synced[1:] == [files.folder / name[:2]]


def test_a_file_that_was_written_before_is_kept_as_it_is(tmp_path: Path) -> None:
    files = Files(tmp_path / "files")
    with files.temporary() as (stream, path):
        stream.write(b"x" * 5000)
        digest, number = settled(stream), path.stat().st_ino
        name = Adding(files).move(path, digest, "tif")
    assert files.sound(name)
    assert files.path(name).stat().st_ino == number
    assert list(files.begun()) == []


@pytest.mark.parametrize("content", [b"pixels", io.BytesIO(b"pixels")])
def test_what_fails_leaves_nothing(tmp_path: Path, content: object) -> None:
    files = Files(tmp_path / "files")
    with pytest.raises(ValueError, match="no name"):
        Adding(files).put(content, "../png")  # type: ignore[arg-type]
    assert list(files.begun()) == []
    assert list(files.names()) == []
