"""The run folder: one holder, one set of facts, nothing foreign touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aftermap.cluster.folder import RunFolder
from aftermap.scenes.errors import Refused

FACTS = {"method": {"name": "a"}, "window": {"halo_px": 16}}


def test_a_second_run_is_refused_while_the_first_lives_and_not_after_it_is_killed(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from aftermap.cluster.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Refused, match=f"process {holder.pid}"), RunFolder(tmp_path).locked():
            pass
    finally:
        holder.kill()
        holder.wait()
    deadline = time.monotonic() + 10
    with RunFolder(tmp_path).locked():
        assert time.monotonic() < deadline


def test_other_facts_are_refused_with_what_changed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(folder.begin(FACTS, fresh=False))
    assert folder.begin(FACTS, fresh=False)["facts"] == FACTS
    with pytest.raises(Refused, match=r"window.halo_px: was 16, now 32.*|--fresh"):
        folder.begin(FACTS | {"window": {"halo_px": 32}}, fresh=False)
    assert folder.begin(FACTS | {"window": {"halo_px": 32}}, fresh=True)["attempts"] == 0


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(Refused, match=r"thesis\.doc"):
        RunFolder(tmp_path).begin(FACTS, fresh=False)
    with pytest.raises(Refused, match=r"thesis\.doc"):
        RunFolder(tmp_path).begin(FACTS, fresh=True)
    assert (tmp_path / "thesis.doc").exists()


def test_fresh_removes_only_what_a_run_made(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write(folder.begin(FACTS, fresh=False))
    (tmp_path / "layers.zarr/damage").mkdir(parents=True)
    (tmp_path / "damage.tif").write_bytes(b"")
    (tmp_path / "mine.tif").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("keep")
    folder.clear()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.tif", "notes.txt"]


FILES = ["damage.tif", "p_none.tif", "buildings.gpkg", "buildings.parquet", "summary.csv"]
MINE = ["buildings.geojson", "mine.tif", "notes.txt", "x.tif"]


def finished(path: Path) -> RunFolder:
    """The folder of a finished run of two chunks, with files of its user's."""
    folder = RunFolder(path)
    for layer in ("damage", "p_none"):
        (folder.store / layer / "c/0").mkdir(parents=True)
        (folder.store / layer / "zarr.json").touch()
        for k in (0, 1):
            (folder.store / layer / f"c/0/{k}").write_bytes(b"x")
    (folder.store / "x").mkdir()
    (folder.store / "zarr.json").touch()
    for name in (*FILES, *MINE, "damage.qml", "report.html", ".p_none.1a.part.tif"):
        (path / name).write_bytes(b"x")
    folder.write(
        {"facts": FACTS, "state": "done", "plan": {"chunks": 2}, "totals": {"files": FILES}}
    )
    return folder


def left(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


@pytest.mark.parametrize(
    "gone",
    [
        *("damage.tif", "summary.csv", "report.html", "layers.zarr", "layers.zarr/p_none"),
        *("layers.zarr/damage/c/0/1", "layers.zarr/p_none/c/0/0", "layers.zarr/p_none/zarr.json"),
    ],
)
def test_a_run_is_whole_with_every_file_and_every_chunk_of_its_store(
    tmp_path: Path, gone: str
) -> None:
    folder = finished(tmp_path)
    record = folder.read()
    assert folder.whole(record)
    if (tmp_path / gone).is_dir():
        shutil.rmtree(tmp_path / gone)
    else:
        (tmp_path / gone).unlink()
    assert not folder.whole(record)
    assert folder.delivered(record) == gone.startswith("layers.zarr")


def test_chunks_that_were_set_aside_have_no_shards_and_are_not_missed(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    for layer in ("damage", "p_none"):
        (folder.store / layer / "c/0/1").unlink()
    assert folder.whole(folder.read() | {"quarantined": [{"chunk": [0, 1]}]})


def test_rasters_are_removed_by_the_record_where_the_store_is_gone(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    shutil.rmtree(folder.store)
    folder.clear()
    assert left(folder) == MINE


def test_a_record_removes_nothing_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    folder, other = finished(tmp_path / "run"), tmp_path / "other.tif"
    other.write_bytes(b"x")
    folder.write(folder.read() | {"totals": {"files": ["../other.tif", str(other), "*.tif"]}})
    folder.clear()
    assert other.exists()
    assert (tmp_path / "run/mine.tif").exists()


class Killed(BaseException):
    """In place of the signal that ends a process between two calls to the system."""


def killed_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End whatever removes, renames or replaces files before its next such call."""
    made = iter(range(calls))

    def ending(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            if next(made, None) is None:
                raise Killed
            return call(*args, **options)

        return called

    for name in ("unlink", "remove", "rmdir", "rename", "replace"):
        monkeypatch.setattr(os, name, ending(getattr(os, name)))


@pytest.mark.parametrize("goes_on", [True, False])
def test_starting_over_may_be_killed_at_any_moment(tmp_path: Path, goes_on: bool) -> None:
    """The same command then starts over, and without --fresh the same run goes on."""
    facts = FACTS if goes_on else FACTS | {"window": {"halo_px": 32}}
    for calls in count():
        (tmp_path / str(calls)).mkdir()
        folder = finished(tmp_path / str(calls))
        with pytest.MonkeyPatch.context() as patch:
            killed_after(calls, patch)
            try:
                folder.begin(facts, fresh=True)
            except Killed:
                over = False
            else:
                over = True
        if goes_on:
            assert folder.begin(FACTS, fresh=False)["facts"] == FACTS
            assert calls == 0 or not folder.whole(folder.read())
            # A store is there with all it had, or not at all: `Store.create` makes it then.
            assert not folder.store.exists() or len(list(folder.store.rglob("*"))) == 14
        else:
            assert folder.begin(facts, fresh=True)["attempts"] == 0
            assert folder.read()["facts"] == facts
            assert left(folder) == sorted([*MINE, "run.json"])
        if over:
            break
    assert calls > 20


def test_a_refusal_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RunFolder(tmp_path / "run").locked():
        raise RuntimeError
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Refused, match="cannot be written"),
        RunFolder(tmp_path / "file" / "run").locked(),
    ):
        pass
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(Refused, match="-o"), RunFolder(tmp_path / "closed" / "run").locked():
            pass


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"facts": ')
    with pytest.raises(Refused, match="cannot be read"):
        RunFolder(tmp_path).begin(FACTS, fresh=False)
