"""Which images are good enough, where their files are, and how the rest is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import shapely
from aftermap.scenes.ard import ArdCell
from aftermap.scenes.left_out import LeftOut, printable
from aftermap.scenes.sift import Limits, by_event, good_enough, local_copies, without_duplicates
from catalogs import CELL, image


def test_duplicates_are_dropped_by_address_and_by_place_and_name() -> None:
    one = image("x", 1)
    moved = replace(one, href="https://mirror.org/x.tif")
    elsewhere = image("x", 1, cell=ArdCell(37, "031133012313"))
    loose = image("x", 1, box=(36, 37, 37, 38))
    kept, dropped = without_duplicates(
        [one, one, moved, replace(elsewhere, href="/other/x.tif"), replace(loose, href="/l/x.tif")]
    )
    assert (len(kept), dropped) == (3, 2)


def test_the_event_day_counts_as_after() -> None:
    times = [-1e-6, 0.0, 0.9, -30, None]
    left_out = LeftOut()
    before, after = by_event([image(str(t), t) for t in times], date(2023, 2, 6), left_out)
    assert [i.name for i in before] == ["-1e-06", "-30"]
    assert [i.name for i in after] == ["0.0", "0.9"]
    assert list(left_out.lines()) == ["1 image: no date (37/031133012312/None)"]


def test_limits_are_told_with_their_names() -> None:
    left_out = LeftOut()
    offered = [
        image("fine", 1, cloud=20, tilt=30), image("unknown", 1, cloud=None, tilt=None),
        image("cloudy", 1, cloud=20.1), image("oblique", 1, tilt=30.5),
        image("far", 1, box=(80, 0, 81, 1)),
        replace(image("apron", 1), outline=shapely.box(*np.add(CELL.polygon().bounds, (1, 0, 1, 0)))),
    ]  # fmt: skip
    area = shapely.box(30, 30, 40, 40)
    kept = good_enough(offered, Limits(area, max_cloud=20, max_off_nadir=30), left_out)
    assert [i.name for i in kept] == ["fine", "unknown"]
    told = "\n".join(left_out.lines())
    for reason in ("max_cloud = 20 %", "max_off_nadir = 30 degrees", "outside the area", "apron"):
        assert reason in told


def test_local_copies_are_found_by_the_longest_tail(tmp_path: Path) -> None:
    tail = "ard/37/031133012312/2023-02-07/A1-visual.tif"
    remote = [
        replace(image("A1", 1), href=f"https://a.org/events/Town/{tail}"),
        replace(image("B2", 1), href="https://a.org/events/Town/ard/37/x/B2-visual.tif"),
        replace(image("C3", 1), href="https://a.org/..%2f..%2fsecret.tif"),
    ]
    for place in ("events/Town", "Town", ""):
        (tmp_path / "root" / place / tail).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / place / tail).touch()
    (tmp_path / "secret.tif").touch()
    left_out = LeftOut()
    root = tmp_path / "root"
    kept = local_copies(remote, root, left_out)
    assert [i.href for i in kept] == [str(root / "events/Town" / tail)]
    (root / "events/Town" / tail).unlink()
    assert local_copies(remote, root, LeftOut())[0].href == str(root / "Town" / tail)
    (root / "Town" / tail).unlink()
    (root / "Town" / tail).symlink_to(tmp_path / "secret.tif")  # leads out of root
    assert local_copies(remote, root, LeftOut())[0].href == str(root / tail)
    assert next(left_out.lines()).startswith("2 images: no local copy under root = ")
    assert local_copies(remote, None, LeftOut()) == remote


def test_one_local_file_for_several_images_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "A1-visual.tif").touch()
    images = [
        replace(image("A1", 1), href=f"https://a.org/ard/37/{q}/2023-02-07/A1-visual.tif")
        for q in ("031133012312", "031133012313")
    ]
    left_out = LeftOut()
    assert local_copies(images, tmp_path, left_out) == []
    assert "keep their folders under root" in next(left_out.lines())
    assert len(local_copies(images[:1], tmp_path, LeftOut())) == 1


def test_thousands_of_reasons_stay_a_few_lines() -> None:
    left_out = LeftOut()
    for number in range(5000):
        left_out.add("too cloudy", f"i{number}")
    left_out.add("no date", "x\x1b[31m\n" + "y" * 500)
    lines = list(left_out.lines())
    assert lines[0] == "5000 images: too cloudy (i0, i1, i2, ...)"
    assert len(lines) == 2
    assert lines[1].isprintable()
    assert len(lines[1]) < 130
    assert len(left_out) == 5001
    for number in range(3000):
        left_out.add(f"a reason like no other, {number}", "x")
    assert len(list(left_out.lines())) == 41
    assert list(left_out.lines())[-1] == "2962 more: 2962 further reasons"
    assert printable("a\tb") == "a?b"
