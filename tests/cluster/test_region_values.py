"""What a region file may say: every value is checked, by name, before anything is begun."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from aftermap.cluster.regions.file import Images, read_region_file
from aftermap.cluster.regions.region import prepare_region
from aftermap.scenes.errors import UsageError
from regions import write_region

PAIR = "a", Path("a-pre.tif"), Path("a-post.tif")
"""Images that are not there: what is wrong in the file is told before any is looked for."""

WRONG = [
    ("region", "name = 5", "[region] name must be a text in quotes; found 5"),
    ("region", "out = 5", "[region] out must be a file name in quotes; found 5"),
    ("images", "path = 7", "[images] path must be a text in quotes; found 7"),
    ("images", "kind = 5", "[images] kind must be a text in quotes; found 5"),
    ("images", "max_cloud = -1", "[images] max_cloud must be a number of percent, 0 or more"),
    ("images", "max_cloud = nan", "[images] max_cloud must be a number of percent, 0 or more"),
    ("images", 'event_date = "2023-02-06"', "[images] event_date must be a date without quotes"),
    ("images", "event_date = 2023-02-06T01:17:00Z", "[images] event_date must be a date without"),
    ("images", "bbox = [36, 37, 38]", "[images] bbox must be a list of four numbers"),
    ("images", 'collections = "town"', "[images] collections must be a list of texts"),
    ("images", 'allow_remote = "yes"', "[images] allow_remote must be true or false"),
    ("assess", 'chunk = "256"', "[assess] chunk must be a whole number; found '256'"),
    ("assess", "chunk = true", "[assess] chunk must be a whole number; found True"),
    ("assess", "chunk = 0", "[assess] chunk must be a whole number of pixels, 1 or more; found 0"),
    ("assess", "halo = -1", "[assess] halo must be a whole number of pixels, 0 or more; found -1"),
    ("assess", "resolution = -1", "[assess] resolution must be a length in metres above 0"),
    ("assess", "resolution = nan", "[assess] resolution must be a length in metres above 0"),
    ("assess", 'grid = "middle"', '[assess] grid must be "post" or "pre"; found \'middle\''),
    ("assess", 'min_area = "x"', "[assess] min_area must be a number; found 'x'"),
    ("assess", "min_area = -5", "[assess] min_area must be an area in m2, 0 or more; found -5"),
    ("assess", "bands = [0, 1, 2]", "[assess] bands must be band numbers, counted from 1"),
    ("assess", "bands = [1, 2]", "[assess] bands = [1, 2] are 2, and difference reads 3"),
    ("assess", "scale = [5, 1]", "[assess] scale must be two numbers, the lower one first"),
    ("assess", "scale = [5]", "[assess] scale must be a list of two numbers; found [5]"),
    ("assess", 'crs = "EPSG:1"', "[assess] crs must be a coordinate system"),
    ("assess", "footprints = 5", "[assess] footprints must be a file name in quotes; found 5"),
    ("assess", "gcps = 1", "[assess] gcps must be true or false; found 1"),
    ("assess", 'device = "tpu"', '[assess] device must be "auto", "cpu" or "cuda"'),
    ("assess", "precision = 16", "[assess] precision must be a text in quotes; found 16"),
    ("assess", 'rule = "loudest"', "[assess] There is no rule 'loudest'"),
    ("cluster", "kind = 5", "[cluster] kind must be a text in quotes; found 5"),
    ("cluster", 'workers = "2"', "[cluster] workers must be a whole number; found '2'"),
    ("cluster", "workers = 0", "[cluster] workers must be a whole number, 1 or more; found 0"),
    ("cluster", 'scenes_at_once = "2"', "[cluster] scenes_at_once must be a whole number"),
    ("cluster", "scenes_at_once = 0", "[cluster] scenes_at_once must be a whole number, 1 or"),
    ("cluster", 'memory = "lots"', "[cluster] memory must be an amount of memory in quotes"),
    ("cluster", "memory = 4", "[cluster] memory must be a text in quotes; found 4"),
    ("districts", "path = 5", "[districts] path must be a file name in quotes; found 5"),
]


@pytest.mark.parametrize(("table", "line", "message"), WRONG)
def test_a_value_that_cannot_be_is_refused_before_anything_is_begun(
    tmp_path: Path, table: str, line: str, message: str
) -> None:
    file = write_region(tmp_path, [PAIR], assess='method = "difference"', districts="")
    key = line.split(" = ")[0]
    lines, here = [], ""
    for text in file.read_text().splitlines():
        here = text if text.startswith("[") else here
        if here == f"[{table}]" and text.startswith(f"{key} ="):
            continue
        lines += [text, line] if text == f"[{table}]" else [text]
    file.write_text("\n".join(lines))
    with pytest.raises(UsageError) as refusal:
        prepare_region(read_region_file(file))
    assert str(file) in str(refusal.value)
    assert message in str(refusal.value)


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "region.toml"
    for text, message in (
        ("images = 5", r"\[images\] must be a table"),
        ('job = "long"\n[images]\nkind = "list"', r"\[job\] must be a table"),
        ("[images]\npath = 'a.csv'", r"\[images\] needs kind"),
        ("[region]\n", r"there is no \[images\] table"),
        ("[images]\nkind = 'list'\nroof = 1", r"keys of \[images\] that do not exist: roof"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_region_file(file)


def test_every_kind_of_value_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "region.toml"
    file.write_text(
        '[images]\nkind = "stac"\npath = "c.json"\nevent_date = 2023-02-06\nmax_cloud = 5\n'
        'bbox = [36, 36.5, 37, 38]\ncollections = ["a"]\nallow_remote = true\n'
        "[assess]\nbands = [3, 2, 1]\nscale = [0, 2047.5]\nresolution = 1\nflags = [0.2, 0.9]\n"
        'crs = "EPSG:32637"\nfootprints = "b.gpkg"\nhalo = 0\n[cluster]\nmemory = "4GiB"\n'
    )
    region = read_region_file(file)
    assert region.images.bbox == (36, 36.5, 37, 38)
    assert region.images.collections == ("a",)
    assert region.assess["footprints"] == str(tmp_path / "b.gpkg")


def test_images_are_checked_at_birth() -> None:
    with pytest.raises(UsageError, match=r"\[images\] max_cloud must be a number"):
        replace(Images(kind="list", path="a.csv"), max_cloud="50")  # type: ignore[arg-type]


def test_the_command_ends_with_the_code_of_a_wrong_request(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aftermap", "region"]
    wrong = write_region(tmp_path, [PAIR], name="wrong", cluster='workers = "2"')
    right = write_region(tmp_path, [PAIR], name="right")
    for words in ([str(wrong)], [str(right), "--memory", "lots"]):
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
