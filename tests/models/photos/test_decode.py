"""Photos of all kinds become the same kind of square, and broken ones are told in words."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from aftermap.models.photos.decode import MAX_PIXELS, is_photo, read_photo
from aftermap.scenes.errors import Refused
from PIL import Image
from torch.nn import functional

Write = Callable[..., Path]


def test_the_middle_is_resampled_with_antialias(tmp_path: Path, write_photo: Write) -> None:
    path = write_photo(tmp_path / "a.png", width=150, height=90)
    whole = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None].float()
    # 90 px become 45, 150 become 75, of which the middle 45 are kept.
    wanted = functional.interpolate(whole, (45, 75), mode="bilinear", antialias=True)[0, ..., 15:60]
    found = read_photo(path, 45)
    assert found.shape == (3, 45, 45)
    assert found.dtype == np.uint8
    assert np.abs(found - wanted.numpy()).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (30, 30)])
def test_any_size_becomes_the_side(
    tmp_path: Path, write_photo: Write, size: tuple[int, int]
) -> None:
    path = write_photo(tmp_path / "a.png", width=size[0], height=size[1])
    assert read_photo(path, 30).shape == (3, 30, 30)
    if size == (30, 30):
        assert np.array_equal(read_photo(path, 30), np.asarray(Image.open(path)).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("name", "mode", "slack"),
    [
        ("a.jpg", "RGB", 12),
        ("a.jpeg", "L", 12),
        ("a.jpg", "CMYK", 12),
        ("a.png", "L", 0),
        ("a.png", "P", 20),
        ("a.png", "1", 0),
        ("a.png", "RGBA", 0),
        ("a.tif", "RGB", 0),
        ("a.tiff", "CMYK", 0),
        ("a.tif", "LA", 0),
        ("a.webp", "RGB", 12),
    ],
)
def test_formats_and_modes(
    tmp_path: Path, write_photo: Write, name: str, mode: str, slack: int
) -> None:
    path = write_photo(tmp_path / name, seed=3, width=24, height=24, mode=mode)
    plain = np.asarray(Image.open(write_photo(tmp_path / "plain.png", seed=3, width=24, height=24)))
    if mode in ("L", "LA", "1"):
        plain = np.asarray(Image.fromarray(plain).convert(mode[0]).convert("RGB"))
    found = read_photo(path, 24).astype(int)
    assert np.abs(found - plain.transpose(2, 0, 1)).mean() <= slack


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 257, 65535, 300], [1000, 32896, 128, 129]] * 2, np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        found = read_photo(tmp_path / name, 4)
        assert (found == np.round(values / 257)).all()


@pytest.mark.parametrize("interleave", ["band", "pixel"])
@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_tiffs_of_sixteen_bits(tmp_path: Path, interleave: str, compress: str, bands: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (bands, 32, 32), np.uint16)
    profile = {"driver": "GTiff", "dtype": "uint16", "width": 32, "height": 32, "count": bands}
    how = {"interleave": interleave, "compress": compress}
    with rasterio.open(tmp_path / "a.tif", "w", **profile, **how) as target:
        target.write(values)
    wanted = np.broadcast_to(values[:3] if bands > 1 else values, (3, 32, 32))
    assert np.array_equal(read_photo(tmp_path / "a.tif", 32), np.round(wanted / 257))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_other_numbers_are_not_guessed_at(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.ones((4, 4), kind)).save(tmp_path / "a.tif")
    with pytest.raises(Refused, match=f"its pixels are {kind.__name__}, whose range nobody tells"):
        read_photo(tmp_path / "a.tif", 4)


def test_pipes_and_folders_are_no_photos(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(Refused, match="it is no file"):
            read_photo(tmp_path / name, 4)


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 4), 200, np.uint8)
    pixels[:2, :, 3] = 0
    pixels[2:, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png", 4)
    assert (found[:, :2] == 0).all()
    assert (found[:, 2:] == 200).all()
    palette = Image.fromarray(np.repeat([[0, 1]], 2, 0).astype(np.uint8), mode="P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "b.png", transparency=0)
    assert read_photo(tmp_path / "b.png", 2)[:, 0].tolist() == [[0, 0], [0, 255], [0, 0]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_exif_data_say(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4, :4] = (255, 0, 0)
    upright[:4, 4:] = (0, 255, 0)
    # What a camera stores, so that the viewer's turn gives the upright picture.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_photo(tmp_path / "a.png", 8), upright.transpose(2, 0, 1))


def test_broken_exif_data_lose_no_photo(tmp_path: Path, write_photo: Write) -> None:
    path = tmp_path / "a.jpg"
    Image.open(write_photo(tmp_path / "b.png")).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_photo(path, 8).any()


def bomb(width: int, height: int) -> bytes:
    """A small PNG that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width", [MAX_PIXELS // 1000 + 1, 1_000_000])
def test_decompression_bombs_are_refused(tmp_path: Path, width: int) -> None:
    (tmp_path / "a.png").write_bytes(bomb(width, 1000))
    with pytest.raises(Refused, match=r"a\.png cannot be read: .*(claims|exceeds limit)"):
        read_photo(tmp_path / "a.png", 8)


def test_broken_files_are_told(tmp_path: Path, write_photo: Write) -> None:
    whole = write_photo(tmp_path / "a.jpg", width=200, height=200).read_bytes()
    for number, content in enumerate(
        [b"", b"no photo", whole[:200], whole[: len(whole) // 2], b"GIF89a" + whole]
    ):
        path = tmp_path / f"broken{number}.jpg"
        path.write_bytes(content)
        with pytest.raises(Refused, match=f"broken{number}.jpg cannot be read"):
            read_photo(path, 8)
    with pytest.raises(Refused, match=r"none\.jpg"):
        read_photo(tmp_path / "none.jpg", 8)


def test_other_formats_are_no_photos_whatever_they_are_called(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("RGB", (4, 4)).save(content, "GIF")
    (tmp_path / "a.png").write_bytes(content.getvalue())
    with pytest.raises(Refused):
        read_photo(tmp_path / "a.png", 4)
    assert is_photo(Path("A.JPG"))
    assert not is_photo(Path("a.gif"))
    assert not is_photo(Path(".a.jpg"))
