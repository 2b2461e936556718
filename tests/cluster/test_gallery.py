"""A gallery of photos: scores and figures by hand, names that bite, what fits, killed and gone on with."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from aftermap.cluster.gallery import figures as gallery_figures
from aftermap.cluster.gallery import pictures as gallery_pictures
from aftermap.cluster.gallery.gallery import gallery
from aftermap.cluster.gallery.pictures import coloured, overlaid
from aftermap.models.card import Card
from aftermap.models.checkpoint import load, save
from aftermap.models.deep_disaster import DeepDisaster
from aftermap.models.inception_window import InceptionWindow
from aftermap.models.localisation import guided_backpropagation, vanilla_gradient
from aftermap.models.score_net import ScoreNet
from aftermap.scenes.errors import NothingToAnalyse, Refused, UsageError
from chips_made import square, write_chips
from killed import kill
from photos_made import put, rubble
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasters import texture, write_raster
from skimage.transform import resize
from sklearn.metrics import confusion_matrix, roc_auc_score
from typer.testing import CliRunner

from aftermap.cli import app

SIDE = 32
BITING = '=HYPERLINK("x") <script>alert(1)</script> & "quoted".png'


def card_for(network: ScoreNet, method: str, threshold: float, mean: float, std: float) -> Card:
    return Card(
        method=method, network=method, options=getattr(network, "options", None) or
        {"encoder": "resnet18", "side": SIDE}, classes=1, bands=3, mean=(mean,) * 3, std=(std,) * 3,
        resolution=(0.1, 2), nominal_resolution=0.5, core=network.side, halo=network.side,
        scan=network.side, stride=1, threshold=threshold, training_data="<i>nothing</i>",
    )  # fmt: skip


def student(folder: Path, threshold: float = 0.5, **options: Any) -> Path:
    torch.manual_seed(3)
    network = DeepDisaster(**{"width": 4, "teacher_width": 4, "side": SIDE, "unit": 0.7} | options)
    save(folder / "deep-disaster", network, card_for(network, "deep-disaster", threshold, 0.5, 0.5))
    return folder / "deep-disaster.safetensors"


def by_hand(weights: Path, files: list[Path]) -> np.ndarray:
    """Scores of photos that are already squares of the right side, one at a time."""
    network, card = load(weights)
    assert isinstance(network, ScoreNet)
    found = []
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB"), np.float32) / card.scale
        image = (pixels - np.array(card.mean)) / np.array(card.std)
        with torch.no_grad():
            tensor = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
            found.append(float(network.scores(tensor)))
    return np.array(found)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two towns with parts and labels, some photos without a label, and one that is broken."""
    root = tmp_path_factory.mktemp("photos") / "two <towns>"
    for number in range(10):
        for town in ("amatrice", "oaxaca"):
            split = "train" if number < 5 else "test"
            folder, seed = root / town / split, number + 100 * (town == "oaxaca")
            put(folder / "no_damage" / f"{number}.png", texture(SIDE, SIDE, seed))
            put(folder / "damage" / f"{number}.png", rubble(SIDE, seed))
        put(root / "unknown" / f"{number}.png", texture(SIDE, SIDE, number + 500))
    put(root / BITING.replace("/", "∕"), rubble(SIDE, 77))
    put(root / "amatrice" / "test" / "no_damage" / "twin.png", texture(SIDE, SIDE, 2))
    (root / "oaxaca" / "test" / "damage" / "<b>broken.jpg").write_bytes(b"no photo")
    return root


@pytest.fixture(scope="module")
def weights(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random student whose threshold lies in the middle of the photos."""
    folder = tmp_path_factory.mktemp("weights")
    files = sorted(photos.rglob("*.png"))
    middle = float(np.median(by_hand(student(folder), files)))
    return student(folder, threshold=middle)


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "photos.csv").open(encoding="utf-8", newline="") as file:
        return {row["photo"]: row for row in csv.DictReader(file)}


class Reader(HTMLParser):
    """The tags of a page, and every picture's caption in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.pictures: list[tuple[str, np.ndarray]] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag == "img":
            given = dict(attrs)
            content = base64.b64decode(str(given["src"]).partition("base64,")[2])
            image = np.asarray(Image.open(io.BytesIO(content)))
            self.pictures.append((str(given["alt"]), image.transpose(2, 0, 1)))


def test_scores_figures_and_table(photos: Path, weights: Path, tmp_path: Path) -> None:
    done = gallery(photos, weights, tmp_path / "out", "deep-disaster", device="cpu")
    rows = table(tmp_path / "out")
    files = list(photos.rglob("*.png"))
    assert len(rows) == len(files) + 1 == done.photos + done.unreadable
    told = [float(row["score"]) for row in rows.values() if row["score"]]
    assert told == sorted(told, reverse=True)
    assert not list(rows.values())[-1]["score"]
    wanted, threshold = by_hand(weights, files), done.threshold
    scores, found = {}, {}
    for file, score in zip(files, wanted, strict=True):
        name = str(file.relative_to(photos))
        row = rows["'" + name if name.startswith("=") else name]
        assert float(row["score"]) == pytest.approx(score, rel=1e-4)
        assert row["damaged"] == ("yes" if np.float32(row["score"]) >= threshold else "no")
        label = {"damage": "damage", "no_damage": "no damage"}.get(file.parent.name, "")
        assert row["label"] == label
        parts = file.relative_to(photos).parts
        assert row["town"] == (parts[0] if len(parts) > 1 else "")
        assert row["part"] == (parts[1] if len(parts) == 4 else "")
        if label:
            scores[name] = (label == "damage", float(row["score"]))
            found[name] = (label == "damage", row["damaged"] == "yes")
    broken = rows["oaxaca/test/damage/<b>broken.jpg"]
    assert not broken["score"]
    assert "cannot be read" in broken["reason"]
    assert str(photos) not in broken["reason"]
    figures = {f.group: f for f in done.figures}
    for group in figures:
        kind, _, name = group.partition(" ")
        chosen = [n for n in scores if kind == "all" or name in n.split("/")]
        labels, values = zip(*[scores[n] for n in chosen], strict=True)
        assert figures[group].auc == pytest.approx(roc_auc_score(labels, values))
        _, fp, fn, tp = confusion_matrix(labels, [found[n][1] for n in chosen]).ravel()
        got = figures[group]
        assert (got.hits, got.damaged, got.false_alarms) == (tp, tp + fn, fp)
        assert (got.wrong, got.photos) == (fp + fn, len(chosen))
    assert set(figures) == {"all", "part train", "part test", "town amatrice", "town oaxaca"}
    assert done.code == 4
    assert done.leaks.named == (
        ("amatrice/test/no_damage/twin.png", "test", "amatrice/train/no_damage/2.png", "train"),
    )
    told = json.loads((tmp_path / "out" / "gallery.json").read_text())
    assert told["state"] == "done"
    assert told["result"] == json.loads(json.dumps(done.to_dict()))


def test_the_page(photos: Path, weights: Path, tmp_path: Path) -> None:
    done = gallery(photos, weights, tmp_path / "out", device="cpu")
    text = (tmp_path / "out" / "gallery.html").read_text(encoding="utf-8")
    page, rows = Reader(text), table(tmp_path / "out")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert not page.tags & {"script", "b>broken.jpg", "towns", "i", "link", "iframe"}
    assert not page.handlers
    assert not re.search(r"(src|href|url\()\s*=?\s*[\"']?(https?:|//)", text)
    names = [name for name, _ in page.pictures if name != "map"]
    assert BITING.replace("/", "∕") in names
    assert html.escape("<b>broken.jpg") in text
    plain = {name.removeprefix("'"): row for name, row in rows.items() if row["score"]}
    assert sorted(names) == sorted(plain)
    wrong = [
        name
        for name, row in plain.items()
        if row["label"] and (row["label"] == "damage") != (row["damaged"] == "yes")
    ]
    assert wrong
    assert set(names[: len(wrong)]) == set(wrong)
    for section in (names[: len(wrong)], names[len(wrong) :]):
        scores = [float(plain[name]["score"]) for name in section]
        assert scores == sorted(scores, reverse=True)
    # Each photo that reaches the threshold has its own map beside it, and no other has one.
    after = dict(
        zip([n for n, _ in page.pictures], [n for n, _ in page.pictures][1:], strict=False)
    )
    assert {n for n in names if after.get(n) == "map"} == {
        n for n, row in plain.items() if row["damaged"] == "yes"
    }
    assert done.mapped == done.damaged
    assert "1 pair of photos" in text


@pytest.mark.parametrize(
    ("maps", "draw"),
    [("vanilla-gradient", vanilla_gradient), ("guided", guided_backpropagation)],
)
def test_maps_lie_on_their_photos(
    tmp_path: Path, maps: str, draw: Callable[[Any, Any], np.ndarray]
) -> None:
    """A map's picture is the photo, hidden by colour as much as the map says."""
    grey = np.full((3, SIDE, SIDE), 128, np.uint8)
    grey[:, 4:14, 18:28] = rubble(10, 1)
    for name in ("a", "b"):
        put(tmp_path / "p" / f"{name}.png", grey if name == "a" else grey[:, ::-1, ::-1])
    weights = student(tmp_path, threshold=1e-3)
    network, _ = load(weights)
    gallery(tmp_path / "p", weights, tmp_path / "out", maps=maps, device="cpu")
    page = Reader((tmp_path / "out" / "gallery.html").read_text())
    assert len(page.pictures) == 4
    for (name, photo), (_, overlay) in zip(page.pictures[::2], page.pictures[1::2], strict=True):
        pixels = np.asarray(Image.open(tmp_path / "p" / name), np.float32).transpose(2, 0, 1)
        image = torch.from_numpy(pixels / 255 - 0.5)[None] / 0.5
        drawn = resize(draw(network, image)[0], photo.shape[1:], order=1)
        apart = [
            np.abs(overlay - hidden_by(photo, some)).mean() for some in (drawn, drawn[::-1, ::-1])
        ]
        assert apart[0] < 8
        assert apart[0] < 0.7 * apart[1]


def hidden_by(photo: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """A photo under a map in matplotlib's jet."""
    share = 0.7 * drawn
    jet = matplotlib.colormaps["jet"](drawn)[..., :3].transpose(2, 0, 1) * 255
    return photo * (1 - share) + jet * share


def test_colours() -> None:
    photo = rubble(8, 5)
    np.testing.assert_array_equal(overlaid(photo, np.zeros((4, 4))), photo)
    hot = overlaid(np.zeros((3, 8, 8), np.uint8), np.ones((4, 4)))
    assert hot[0].min() > 80
    assert hot[1:].max() == 0
    ramp = coloured(np.array([[0.0, 0.25, 0.5, 0.75, 1.0]]))[0]
    assert ramp.argmax(axis=1).tolist() == [2, 2, 1, 0, 0]


def test_a_window_classifier(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = InceptionWindow("resnet18", SIDE).eval()
    card = card_for(network, "inception-window", 0.5, 0.4, 0.3)
    save(tmp_path / "inception-window", network, card)
    weights = tmp_path / "inception-window.safetensors"
    done = gallery(photos, weights, tmp_path / "out", "inception-window", device="cpu")
    rows = table(tmp_path / "out")
    files = sorted((photos / "unknown").glob("*.png"))
    got = [float(rows[f"unknown/{file.name}"]["score"]) for file in files]
    np.testing.assert_allclose(got, by_hand(weights, files), rtol=1e-4)
    assert done.mapped == 0
    assert 'alt="map"' not in (tmp_path / "out" / "gallery.html").read_text()
    with pytest.raises(UsageError, match="only deep-disaster does"):
        gallery(photos, weights, tmp_path / "o2", maps="guided", device="cpu")
    with pytest.raises(UsageError, match="--maps one of vanilla-gradient"):
        gallery(photos, weights, tmp_path / "o2", maps="lime", device="cpu")
    with pytest.raises(Refused, match="method inception-window"):
        gallery(photos, weights, tmp_path / "o2", "deep-disaster", device="cpu")
    assert not (tmp_path / "o2").exists()


def test_what_does_not_fit_is_told(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_pictures, "BUDGET", 150_000)
    monkeypatch.setattr(gallery_pictures, "MOST_MAPS", 3)
    monkeypatch.setattr(gallery_figures, "MOST_COMPARED", 10)
    done = gallery(photos, weights, tmp_path / "out", device="cpu")
    text = (tmp_path / "out" / "gallery.html").read_text()
    names = [name for name, _ in Reader(text).pictures if name != "map"]
    assert 0 < len(names) == done.shown < done.photos
    assert done.mapped <= 3 < done.damaged
    assert sum(map(len, re.findall(r"<figure.*?</figure>", text, re.DOTALL))) <= 150_000
    assert f"shows {done.shown} of {done.photos} photos" in text
    assert f"maps were made of {done.mapped} of the {done.damaged} photos" in text
    assert "near-duplicates across parts were not looked for" in text
    assert len(done.notes) == 3
    assert len(table(tmp_path / "out")) == done.photos + 1


def test_chips_are_photos_of_what_lies_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores, labels and maps are of the images after, and nothing is said of missing coordinates."""
    middle = square(48, np.s_[8:32], np.s_[8:32])
    chips = write_chips(tmp_path / "chips", [middle * (number % 2) for number in range(24)])

    def laid(*given: np.ndarray) -> np.ndarray:
        warnings.warn(
            "as one thread reads, another stops to silence", NotGeoreferencedWarning, stacklevel=1
        )
        return overlaid(*given)

    monkeypatch.setattr(gallery_pictures, "overlaid", laid)
    weights = student(tmp_path, threshold=1e-3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        done = gallery(chips, weights, tmp_path / "out", device="cpu")
    assert not [str(w.message) for w in said if w.category is NotGeoreferencedWarning]
    rows = table(tmp_path / "out")
    for name in ("06", "07"):
        small = Image.open(chips / "post" / f"{name}.png").resize(
            (SIDE, SIDE), Image.Resampling.BILINEAR
        )
        small.save(tmp_path / f"{name}.png")
        (score,) = by_hand(weights, [tmp_path / f"{name}.png"])
        assert float(rows[name]["score"]) == pytest.approx(score, rel=1e-4)
    labels = {name: row["label"] for name, row in rows.items()}
    assert labels == {f"{n:02d}": "damage" if n % 2 else "no damage" for n in range(24)}
    assert (done.photos, done.mapped, done.code) == (24, 24, 0)


def test_batch_statistics_are_those_of_the_batch(photos: Path, tmp_path: Path) -> None:
    weights = student(tmp_path, batch_statistics=True, threshold=1e-3)
    gallery(photos, weights, tmp_path / "out", device="cpu")
    found = table(tmp_path / "out")
    network, _ = load(weights)
    files = sorted(photos.rglob("*.png"), key=lambda p: p.relative_to(photos).parts)
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files[:16]])
    image = torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float() / 127.5 - 1
    with torch.no_grad():
        wanted = network.scores(image).numpy()
    names = [str(file.relative_to(photos)) for file in files[:16]]
    got = [float(found["'" + n if n.startswith("=") else n]["score"]) for n in names]
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    assert "depends on its neighbours" in (tmp_path / "out" / "gallery.html").read_text()


def test_names_that_are_no_text(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    put(folder / "a.png", rubble(SIDE, 1))
    odd = os.fsdecode(os.fsencode(folder) + b"/caf\xe9\n.png")
    os.replace(folder / "a.png", odd)
    done = gallery(folder, weights, tmp_path / "out", device="cpu")
    assert list(table(tmp_path / "out")) == ["caf\ufffd\n.png"]
    assert done.code == 0


def test_other_weights_and_other_folders(photos: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = gallery(photos, weights, out, maps="none", device="cpu")
    kept = {file: file.stat().st_mtime_ns for file in (out / "scores").iterdir()}
    gallery(photos, weights, out, device="cpu")
    assert kept == {file: file.stat().st_mtime_ns for file in (out / "scores").iterdir()}
    other = student(tmp_path, width=5)
    with pytest.raises(Refused, match="weights_sha256"):
        gallery(photos, other, out, device="cpu")
    again = gallery(photos, other, out, maps="none", device="cpu", fresh=True)
    assert again.photos == first.photos
    assert not kept.keys() & set((out / "scores").iterdir()) or any(
        file.stat().st_mtime_ns != kept.get(file) for file in (out / "scores").iterdir()
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(Refused, match="holds no gallery"):
        gallery(photos, weights, tmp_path / "full", device="cpu")
    assert (tmp_path / "full" / "letter.txt").exists()


def test_a_damaged_score_file_is_made_again(photos: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    gallery(photos, weights, out, device="cpu")
    whole = (out / "photos.csv").read_bytes()
    for number, file in enumerate(sorted((out / "scores").iterdir())):
        file.write_bytes(file.read_bytes()[: -7 if number else 0])
    gallery(photos, weights, out, device="cpu")
    assert (out / "photos.csv").read_bytes() == whole


def test_killed_it_goes_on(tmp_path: Path) -> None:
    """What a kill leaves is taken over, and the end is the same to the byte."""
    for number in range(140):
        put(tmp_path / "p" / f"{number}.png", texture(24, 24, number))
    weights = student(tmp_path, width=16, teacher_width=24, side=64)
    words = ["assess", tmp_path / "p", "-o", tmp_path / "killed", "--method", "deep-disaster"]
    words += ["--weights", weights, "--maps", "none", "--device", "cpu"]
    scores = tmp_path / "killed" / "scores"
    kill(
        [sys.executable, "-m", "aftermap", *map(str, words)],
        lambda: len(list(scores.glob("[!.]*.csv"))) >= 2,
    )
    kept = {file: file.stat().st_mtime_ns for file in scores.glob("[!.]*.csv")}
    assert 2 <= len(kept) < 9
    assert not (tmp_path / "killed" / "photos.csv").exists()
    gallery(tmp_path / "p", weights, tmp_path / "killed", maps="none", device="cpu")
    assert kept.items() <= {f: f.stat().st_mtime_ns for f in scores.iterdir()}.items()
    gallery(tmp_path / "p", weights, tmp_path / "whole", maps="none", device="cpu")
    for name in ("photos.csv", "gallery.html"):
        made = [(tmp_path / out / name).read_bytes() for out in ("killed", "whole")]
        assert made[0] == made[1]


def assess(*words: object) -> Any:
    return CliRunner().invoke(app, ["assess", *map(str, words)])


def test_the_command(photos: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = (
        photos,
        "-o",
        out,
        "--method",
        "deep-disaster",
        "--weights",
        weights,
        "--device",
        "cpu",
    )
    planned = assess(*given, "--dry-run")
    assert planned.exit_code == 0
    assert "52 of" in planned.output
    assert "41 of them labelled; 1 cannot be read" in planned.output
    told = json.loads(assess(*given, "--dry-run", "--json").stdout)
    assert (told["count"], told["unreadable"], told["maps"]) == (52, 1, "vanilla-gradient")
    assert not out.exists()
    done = assess(*given, "--json", "--precision", "fp32")
    assert done.exit_code == 4
    told = json.loads(done.stdout)
    assert told["photos"] == 52
    assert (out / "gallery.html").stat().st_size < 20_000_000
    again = assess(*given)
    assert again.exit_code == 4
    assert "reach the threshold" in again.output
    sound = assess(photos / "amatrice", *given[1:2], tmp_path / "sound", *given[3:])
    assert sound.exit_code == 0
    for option, name in (
        (("--chunk", 64), "--chunk"),
        (("--footprints", tmp_path / "f.gpkg"), "--footprints"),
        (("--ensemble", weights), "--ensemble"),
        (("--overlap", 3), "--overlap"),
        (("--compile",), "--compile"),
        (("--resolution", 1), "--resolution"),
        (("--precision", "bf16"), "--precision"),
        (("--cluster", "threads"), "--cluster"),
    ):
        refused = assess(*given, *option)
        assert isinstance(refused.exception, UsageError)
        assert f"{name} means nothing to photos" in str(refused.exception)
    bare = assess(photos, "-o", tmp_path / "o2", "--method", "deep-disaster")
    assert isinstance(bare.exception, Refused)
    assert "aftermap train --method deep-disaster" in str(bare.exception)


def test_nothing_can_be_read(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for name in ("a.jpg", "b.png"):
        (tmp_path / "p" / name).write_bytes(b"nothing")
    done = assess(
        tmp_path / "p", "-o", tmp_path / "o", "--method", "deep-disaster", "--weights", weights
    )
    assert isinstance(done.exception, NothingToAnalyse)
    assert done.exception.exit_code == 5
    assert not (tmp_path / "o").exists()
    put(tmp_path / "q" / "damage" / "no_damage" / "a.png", rubble(SIDE, 1))
    with pytest.raises(Refused, match="contradict"):
        gallery(tmp_path / "q", weights, tmp_path / "o", device="cpu")


def test_tiles_on_the_earth_are_no_photos(weights: Path, tmp_path: Path) -> None:
    """A folder of tiles is a scene as before, and other methods take no photos."""
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    write_raster(tiles / "a.tif", texture(2 * SIDE, 2 * SIDE, 1))
    given = ("--method", "deep-disaster", "--weights", weights, "--cluster", "threads")
    done = assess(tiles, "-o", tmp_path / "run", *given)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "anomaly_score.tif").exists()
    refused = assess(tiles, "-o", tmp_path / "o", "--maps", "guided", *given)
    assert isinstance(refused.exception, UsageError)
    assert "--maps" in str(refused.exception)
    put(tmp_path / "photos" / "a.png", rubble(SIDE, 1))
    other = assess(tmp_path / "photos", "-o", tmp_path / "o", "--method", "difference")
    assert isinstance(other.exception, UsageError | Refused)


def test_the_clearest_errors_are_kept(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = gallery(photos, weights, tmp_path / "whole", maps="none", device="cpu")
    rows = {name: row for name, row in table(tmp_path / "whole").items() if row["label"]}
    far = {
        name: abs(float(row["score"]) - whole.threshold)
        for name, row in rows.items()
        if (row["label"] == "damage") != (row["damaged"] == "yes")
    }
    monkeypatch.setattr(gallery_pictures, "BUDGET", 15_000)
    gallery(photos, weights, tmp_path / "out", maps="none", device="cpu")
    text = (tmp_path / "out" / "gallery.html").read_text()
    section = text.partition("<h2>Misclassified")[2].partition("<h2>")[0]
    names = [name for name, _ in Reader(section).pictures]
    assert 0 < len(names) < len(far)
    assert min(far[name] for name in names) >= max(far[name] for name in far.keys() - set(names))
    shown = [float(rows[name]["score"]) for name in names]
    assert shown == sorted(shown, reverse=True)
