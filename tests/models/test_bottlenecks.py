"""Features are computed once, kept through kills, and never taken for those of something else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from aftermap.models import bottlenecks
from aftermap.models.bottlenecks import Bottlenecks
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.photos.open import open_photos
from aftermap.models.photos.photoset import PhotoSet
from aftermap.models.rotations import TURNS, Turn, context, turned
from aftermap.scenes.errors import Refused, UsageError
from PIL import Image
from torch import Tensor

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 32


@pytest.fixture
def network() -> InceptionWindow:
    torch.manual_seed(0)
    return InceptionWindow("resnet18", SIDE)


@pytest.fixture
def calls(network: InceptionWindow) -> list[int]:
    """Sizes of the batches that the backbone was given."""
    sizes: list[int] = []
    network.encoder.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    return sizes


def photos(folder: Path, count: int = 7, side: int = SIDE, size: int = 50) -> PhotoSet:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return open_photos(folder, side)


def plain(network: InceptionWindow, squares: np.ndarray) -> Tensor:
    """Features computed one by one."""
    network.eval()
    mean, std = (torch.tensor(x).reshape(3, 1, 1) for x in (network.mean, network.std))
    with torch.no_grad():
        ready = (torch.from_numpy(squares).float() / 255 - mean) / std
        return torch.cat([network.features(one[None]) for one in ready])


def test_features_are_those_of_the_network(tmp_path: Path, network: InceptionWindow) -> None:
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    pictures = photos(tmp_path / "photos")
    found = Bottlenecks(tmp_path / "cache", network, batch=3).of(pictures)
    assert network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])
    assert found.shape == (7, 1, 512)
    assert found.dtype == np.float32
    wanted = plain(network, np.stack([pictures.image(i) for i in range(7)]))
    torch.testing.assert_close(torch.from_numpy(found[:, 0]), wanted, rtol=1e-4, atol=1e-5)


def test_a_second_pass_computes_and_decodes_nothing(
    tmp_path: Path, network: InceptionWindow, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = photos(tmp_path / "photos")
    told: list[tuple[int, int]] = []
    first = Bottlenecks(tmp_path / "cache", network, batch=3).of(
        pictures, progress=lambda done, of: told.append((done, of))
    )
    assert calls == [3, 3, 1]
    assert told == [(7, 7)]
    calls.clear()
    read: list[int] = []
    monkeypatch.setattr(PhotoSet, "image", lambda self, index: read.append(index))
    again = Bottlenecks(tmp_path / "cache", network).of(pictures.subset([3, 1, 6]))
    assert np.array_equal(again, first[[3, 1, 6]])
    assert (calls, read) == ([], [])


def test_only_what_is_new_is_computed(
    tmp_path: Path, network: InceptionWindow, calls: list[int]
) -> None:
    pictures = photos(tmp_path / "photos", 4)
    cache = Bottlenecks(tmp_path / "cache", network)
    few = cache.of(pictures.subset([0, 2]))
    whole = cache.of(pictures)
    assert calls == [2, 2]
    assert np.array_equal(whole[[0, 2]], few)
    # The same image in another place is the same; another image in the same place is not.
    (tmp_path / "photos" / "00.png").rename(tmp_path / "photos" / "elsewhere.png")
    (tmp_path / "photos" / "01.png").write_bytes((tmp_path / "photos" / "02.png").read_bytes())
    moved = cache.of(open_photos(tmp_path / "photos", SIDE))
    assert calls == [2, 2]
    assert np.array_equal(moved, whole[[2, 2, 3, 0]])


def test_orientations(tmp_path: Path, network: InceptionWindow, calls: list[int]) -> None:
    pictures = photos(tmp_path / "photos", 2, side=context(SIDE), size=60)
    turns = (Turn(), Turn(90), Turn(40, True))
    cache = Bottlenecks(tmp_path / "cache", network, batch=4)
    found = cache.of(pictures, turns)
    assert calls == [4, 2]
    calls.clear()
    assert np.array_equal(cache.of(pictures, turns[1:]), found[:, 1:])
    assert cache.of(pictures.subset([0]), TURNS).shape == (1, 72, 512)
    assert sum(calls) == 69
    for index in range(2):
        squares = np.stack([turned(pictures.image(index), turn, SIDE) for turn in turns])
        torch.testing.assert_close(
            torch.from_numpy(found[index]), plain(network, squares), rtol=1e-4, atol=1e-5
        )


def test_photos_of_another_side_are_refused(tmp_path: Path, network: InceptionWindow) -> None:
    cache = Bottlenecks(tmp_path / "cache", network)
    with pytest.raises(UsageError, match=f"side={SIDE}, or side={context(SIDE)} to turn them"):
        cache.of(photos(tmp_path / "photos", 1), TURNS)
    with pytest.raises(UsageError, match="read with 40 px"):
        cache.of(photos(tmp_path / "photos", 1, side=40))
    with pytest.raises(UsageError, match="--batch 1 or more"):
        Bottlenecks(tmp_path / "cache", network, batch=0)


def test_other_weights_and_other_sides_are_kept_apart(
    tmp_path: Path, network: InceptionWindow, calls: list[int]
) -> None:
    pictures = photos(tmp_path / "photos", 2)
    cache = Bottlenecks(tmp_path / "cache", network)
    first, key = cache.of(pictures), cache.key()
    with torch.no_grad():
        network.encoder.conv1.weight.mul_(2)
    assert cache.key() != key
    assert not np.array_equal(cache.of(pictures), first)
    with torch.no_grad():
        network.head.weight.zero_()
    changed = cache.key()
    assert calls == [2, 2]
    cache.of(pictures)
    assert (cache.key(), calls) == (changed, [2, 2])
    wide = cache.of(photos(tmp_path / "photos", 2, side=context(SIDE)))
    assert calls == [2, 2, 2]
    assert wide.shape == (2, 1, 512)
    assert Bottlenecks(tmp_path, InceptionWindow("resnet18", 64)).key() != key


def test_broken_files_are_computed_again(
    tmp_path: Path, network: InceptionWindow, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bottlenecks, "_FLUSH", 2)
    pictures = photos(tmp_path / "photos", 6)
    cache = Bottlenecks(tmp_path / "cache", network, batch=2)
    first = cache.of(pictures)
    files = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert len(files) == 3
    files[0].write_bytes(files[0].read_bytes()[:-5])
    files[1].write_bytes(b"")
    again = cache.of(pictures)
    assert sum(calls) == 6 + 4
    np.testing.assert_allclose(again, first, rtol=1e-4, atol=1e-5)


def test_no_photos(tmp_path: Path, network: InceptionWindow) -> None:
    pictures = photos(tmp_path / "photos", 1, side=context(SIDE)).subset([])
    assert Bottlenecks(tmp_path / "cache", network).of(pictures, TURNS).shape == (0, 72, 512)


def test_a_folder_that_cannot_be(tmp_path: Path, network: InceptionWindow) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="could not be kept"):
        Bottlenecks(tmp_path / "file", network).of(photos(tmp_path / "photos", 1))


WORK = """
import sys, torch
from pathlib import Path
from aftermap.models import bottlenecks
from aftermap.models.bottlenecks import Bottlenecks
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.photos.open import open_photos
torch.set_num_threads(1)
torch.manual_seed(0)
bottlenecks._FLUSH = 4
root = Path(sys.argv[1])
cache = Bottlenecks(root / "cache", InceptionWindow("resnet18", 32), batch=2)
while True:  # until it is killed
    cache.of(open_photos(root / "photos", 32), progress=lambda done, of: print(done, flush=True))
    print("whole", flush=True)
"""


def test_a_killed_pass_goes_on_where_it_was(
    tmp_path: Path, network: InceptionWindow, calls: list[int], until: Callable[..., None]
) -> None:
    pictures = photos(tmp_path / "photos", 60)
    with subprocess.Popen(
        [sys.executable, "-c", WORK, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        until(lambda: len(list((tmp_path / "cache").rglob("*.safetensors"))) >= 2)
        os.kill(process.pid, signal.SIGKILL)
    files = list((tmp_path / "cache").rglob("*.safetensors"))
    kept = Counter(path.parent.name for path in files)
    cache = Bottlenecks(tmp_path / "cache", network)
    assert set(kept) == {cache.key()}
    found = cache.of(pictures)
    assert sum(calls) == 60 - 4 * kept[cache.key()] < 60
    wanted = plain(network, np.stack([pictures.image(i) for i in range(60)]))
    torch.testing.assert_close(torch.from_numpy(found[:, 0]), wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(happened: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.005)

    return wait


def test_labels_and_parts_do_not_matter(tmp_path: Path, network: InceptionWindow) -> None:
    pictures = photos(tmp_path / "photos", 3)
    cache = Bottlenecks(tmp_path / "cache", network)
    first = cache.of(pictures)
    other = pictures.replaced([replace(p, damaged=True, split="test") for p in pictures.photos])
    assert np.array_equal(cache.of(other), first)
