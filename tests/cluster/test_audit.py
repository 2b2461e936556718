"""The audit and the calibration of a real run over a synthetic scene with known damage."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from aftermap.cluster.audit import allotted, conclude, draw
from aftermap.cluster.calibrate import calibrate, level_code
from aftermap.cluster.client import connected
from aftermap.models.checkpoint import read_card
from aftermap.models.metrics import match_buildings
from aftermap.scenes.errors import Refused, UsageError
from aftermap.scenes.synth import Synth, SynthScene, write
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import aftermap as am


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> SynthScene:
    return write(tmp_path_factory.mktemp("scene"), Synth(size=1024, seed=6))


@pytest.fixture(scope="module")
def threads() -> Any:
    with connected("threads", workers=2) as client:
        yield client


@pytest.fixture(scope="module")
def run(scene: SynthScene, threads: Any, tmp_path_factory: pytest.TempPathFactory) -> am.Run:
    return am.assess(scene.pre, scene.post, tmp_path_factory.mktemp("run") / "run", client=threads)


def truth(scene: SynthScene, run: am.Run) -> dict[str, int]:
    """Building of the run to what is really there; 0 where there is none."""
    known = gpd.read_file(scene.footprints, layer="buildings")
    found = run.buildings
    pairs = match_buildings(list(known.geometry), list(found.geometry))
    real = {pair.predicted: int(known["damage_class"][pair.truth]) for pair in pairs}
    return {name: real.get(k, 0) for k, name in enumerate(found["building_id"])}


def answer(sheet: Path, known: dict[str, int]) -> Path:
    with sheet.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["answer"] = str(known[row["building_id"]])
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return sheet


@pytest.mark.slow
def test_an_audit_draws_buildings_with_crops_and_its_totals_hold_the_truth(
    scene: SynthScene, run: am.Run, tmp_path: Path
) -> None:
    sample = draw(run.path, 60, seed=3, out=tmp_path / "audit")
    assert sum(sample.drawn.values()) == 60
    again = draw(run.path, 60, seed=3, out=tmp_path / "again")
    other = draw(run.path, 60, seed=4, out=tmp_path / "other")
    sheets = [(s.folder / "checklist.csv").read_text() for s in (sample, again, other)]
    assert sheets[0] == sheets[1] != sheets[2]
    crops = sorted((sample.folder / "crops").iterdir())
    assert len(crops) == 60
    assert np.asarray(Image.open(crops[0])).std() > 10
    page = (sample.folder / "checklist.html").read_text()
    assert page.count("<article") == 60
    assert "http://" not in page.replace("http://www.w3.org", "")

    known = truth(scene, run)
    found = conclude(run.path, answer(sample.folder / "checklist.csv", known))
    assert found.answered == 60
    analysed = run.buildings[run.buildings["damage_class"] != 255]["building_id"]
    real = np.array([known[name] for name in analysed])
    rows = found.totals.set_index("kind")
    damaged = rows.loc["damaged, all levels"]
    assert damaged["low"] <= (real > 1).sum() <= damaged["high"]
    assert rows["estimate"].drop("damaged, all levels").sum() == pytest.approx(len(real), abs=0.5)
    assert found.path.exists()


@pytest.mark.slow
def test_looking_at_every_building_gives_the_exact_totals(
    scene: SynthScene, run: am.Run, tmp_path: Path
) -> None:
    known = truth(scene, run)
    sample = draw(run.path, 10_000, out=tmp_path / "all")
    found = conclude(run.path, answer(sample.folder / "checklist.csv", known)).totals
    real = np.bincount([known[name] for name in json_called(sample.folder)], minlength=5)
    for row in found.dropna(subset="damage_class").itertuples():
        assert row.low == row.high == row.estimate == real[int(row.damage_class)]


def json_called(folder: Path) -> list[str]:
    return list(json.loads((folder / "sample.json").read_text())["called"])


@pytest.mark.slow
def test_the_checklist_is_filled_in_a_browser_without_a_network(
    run: am.Run, browser: Any, tmp_path: Path
) -> None:
    sample = draw(run.path, 6, out=tmp_path / "audit")
    context = browser.new_context(accept_downloads=True)
    page, requests, complaints = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.goto((sample.folder / "checklist.html").as_uri())
    cards = page.locator("article")
    for number in range(6):
        cards.nth(number).scroll_into_view_if_needed()
        cards.nth(number).get_by_label("Destroyed").check()
    cards.nth(0).get_by_label("Cannot tell").check()
    cards.nth(1).locator("input[type=text]").fill('=1+1, "roof" gone')
    assert page.locator("#count").inner_text() == "6 of 6 answered"
    assert page.locator("img").evaluate_all("all => all.every(i => i.naturalWidth > 100)")
    with page.expect_download() as waiting:
        page.locator("#save").click()
    waiting.value.save_as(tmp_path / "checklist.csv")
    context.close()
    assert not complaints
    assert all(url.startswith(("file://", "blob:")) for url in requests)
    (tmp_path / "checklist.csv").replace(sample.folder / "checklist.csv")
    found = conclude(run.path, sample.folder / "checklist.csv")
    assert (found.answered, found.unclear) == (5, 1)
    assert "'=1+1" in (sample.folder / "checklist.csv").read_text()


@pytest.mark.slow
def test_answers_that_cannot_be_used_are_refused_in_words(run: am.Run, tmp_path: Path) -> None:
    sample = draw(run.path, 5, out=tmp_path / "audit")
    sheet = sample.folder / "checklist.csv"
    with pytest.raises(Refused, match="no answers yet"):
        conclude(run.path, sheet)
    with pytest.raises(Refused, match="checklist already"):
        draw(run.path, 5, out=tmp_path / "audit")
    answer(sheet, dict.fromkeys(json_called(sample.folder), 7))
    with pytest.raises(Refused, match=r"Line 2 .* says '7', which is no answer"):
        conclude(run.path, sheet)
    sheet.write_text("building,grade\n1,2\n")
    with pytest.raises(Refused, match="no column building_id and no column answer"):
        conclude(run.path, sheet)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Refused, match="cannot be made: Not a directory"):
        draw(run.path, 5, out=tmp_path / "file" / "audit")
    record = json.loads((sample.folder / "sample.json").read_text())
    (sample.folder / "sample.json").write_text(json.dumps(record | {"run_id": "other"}))
    with pytest.raises(Refused, match="drawn from run other"):
        conclude(run.path, sheet)
    with pytest.raises(UsageError, match="-n must be positive"):
        draw(run.path, 0, out=tmp_path / "none")


@pytest.mark.slow
def test_answers_may_be_words_between_semicolons_and_name_their_run(
    run: am.Run, tmp_path: Path
) -> None:
    sample = draw(run.path, 4, out=tmp_path / "audit")
    sheet, names = sample.folder / "checklist.csv", json_called(sample.folder)
    words = ["No building", "DESTROYED", "minor damage", "cannot tell"]
    rows = [f"{run.record['run_id']};{n};{w}" for n, w in zip(names, words, strict=True)]
    sheet.write_text("\n".join(["run_id;building_id;answer", *rows]) + "\n", "utf-8-sig")
    found = conclude(run.path, sheet)
    assert (found.answered, found.unclear) == (3, 1)
    sheet.write_text(sheet.read_text("utf-8-sig").replace(run.record["run_id"], "another"))
    with pytest.raises(Refused, match=r"Line 2 .* belongs to run another"):
        conclude(run.path, sheet)
    sheet.write_text(f"building_id,answer\n{names[0]},1\n{names[0]},1\n")
    with pytest.raises(Refused, match=r"Line 3 .* a second time"):
        conclude(run.path, sheet)
    sheet.write_text("building_id,answer\nelsewhere,1\n")
    with pytest.raises(Refused, match="not in the sample"):
        conclude(run.path, sheet)


@pytest.mark.slow
def test_an_image_that_changed_since_the_run_is_not_audited(
    scene: SynthScene, threads: Any, tmp_path: Path
) -> None:
    post = Path(shutil.copy(scene.post, tmp_path / "post.tif"))
    changed = am.assess(scene.pre, post, tmp_path / "run", "difference", scene.footprints, threads)
    shutil.copy(scene.pre, post)
    with pytest.raises(Refused, match=r"post.tif is no longer the image"):
        draw(changed.path, 3)
    post.unlink()
    with pytest.raises(Refused, match=r"post.tif is no longer there"):
        draw(changed.path, 3)
    assert not (changed.path / "audit").exists()


@given(st.dictionaries(st.integers(1, 5), st.integers(1, 300), min_size=1), st.integers(1, 500))
def test_every_class_gets_its_share_and_never_more_than_there_is(
    sizes: dict[int, int], count: int
) -> None:
    given_ = allotted(sizes, count)
    assert sum(given_.values()) == min(count, sum(sizes.values()))
    assert all(0 <= given_[code] <= sizes[code] for code in sizes)
    least = int(count * 0.5 / len(sizes))
    assert all(given_[code] >= min(least, sizes[code]) for code in sizes)


@pytest.mark.slow
def test_calibration_ends_up_in_a_card_and_in_the_buildings_of_the_next_run(
    scene: SynthScene, run: am.Run, threads: Any, tmp_path: Path
) -> None:
    done = calibrate(run.path, scene.footprints, out=tmp_path / "weights")
    card = read_card(done.weights)
    assert card.temperatures == done.fit.temperatures
    assert card.sha256 == run.record["method"]["weights_sha256"]
    assert done.fit.buildings > 50
    assert done.plot.read_text().startswith("<svg")
    warm = am.assess(scene.pre, scene.post, tmp_path / "warm", weights=done.weights, client=threads)
    before, after = run.buildings, warm.buildings
    assert before["building_id"].tolist() == after["building_id"].tolist()
    names = ["p_none", "p_minor", "p_major", "p_destroyed"]
    logs = np.log(np.clip(before[names].to_numpy(), 1e-6, 1)) / done.fit.temperatures
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        after[names].to_numpy(), powers / powers.sum(axis=1, keepdims=True), atol=0.02
    )
    with pytest.raises(Refused, match="calibrated already"):
        calibrate(warm.path, scene.footprints, out=tmp_path / "twice")


@pytest.mark.slow
def test_labels_that_cannot_be_used_are_refused_in_words(
    scene: SynthScene, run: am.Run, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=r"no column 'grade'; it has .*damage_class"):
        calibrate(run.path, scene.footprints, column="grade", out=tmp_path)
    with pytest.raises(Refused, match="does not exist"):
        calibrate(run.path, tmp_path / "none.geojson", out=tmp_path)
    frame = gpd.read_file(scene.footprints, layer="buildings")
    frame.assign(damage_class="fine").to_file(tmp_path / "words.geojson")
    with pytest.raises(Refused, match="found 'fine'"):
        calibrate(run.path, tmp_path / "words.geojson", out=tmp_path)


@pytest.mark.slow
def test_points_serve_as_labels_too(scene: SynthScene, run: am.Run, tmp_path: Path) -> None:
    frame = gpd.read_file(scene.footprints, layer="buildings").to_crs(4326)
    frame["geometry"] = frame.geometry.representative_point()
    names = {1: "no-damage", 2: "minor-damage", 3: "major-damage", 4: "destroyed"}
    frame["subtype"] = frame["damage_class"].map(names)
    frame.to_file(tmp_path / "points.geojson")
    done = calibrate(run.path, tmp_path / "points.geojson", "subtype", tmp_path / "weights")
    assert done.fit.buildings > 50


@pytest.mark.parametrize(
    ("value", "code"),
    [(3, 3), ("3", 3), (3.0, 3), ("Major damage", 3), ("no-damage", 1), ("destroyed", 4)],
)
def test_levels_are_read_from_numbers_and_names(value: object, code: int) -> None:
    assert level_code(value) == code


@pytest.mark.parametrize("value", [0, 255, 6, "un-classified", "", None, float("nan"), 2.5])
def test_what_is_no_level_is_left_out(value: object) -> None:
    assert np.isnan(level_code(value))
