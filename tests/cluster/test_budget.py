"""What a run will cost: the room that its folder has, while others write in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from aftermap.cluster.budget import room_bytes

CHURN = """
import shutil, sys
from pathlib import Path
folder = Path(sys.argv[1])
print("begun", flush=True)
while True:
    for k in range(40):
        (folder / f"c/{k}.part").touch()
        (folder / f"d{k}/e").mkdir(parents=True)
    for k in range(40):
        (folder / f"c/{k}.part").unlink()
        shutil.rmtree(folder / f"d{k}")
"""
"""A run at work: files and folders that are there for a moment."""


def test_the_room_of_a_folder_is_what_is_free_and_what_it_holds_already(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "layers.zarr/damage/c/0").mkdir(parents=True)
    for name in ("damage.tif", ".lock", "layers.zarr/damage/c/0/0"):
        (folder / name).write_bytes(bytes(10 << 20))
    (folder / "gone.tif").symlink_to(tmp_path / "gone.tif")
    for _ in range(20):  # others use the disk meanwhile
        free = shutil.disk_usage(tmp_path).free
        found = room_bytes(folder) - free - (30 << 20)
        if abs(found) < 1 << 20:
            return
    raise AssertionError(f"{found} bytes too many")


def test_the_room_is_told_while_files_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for k in range(300):
        (tmp_path / f"c/{k}").write_bytes(b"x")
    other = subprocess.Popen(
        [sys.executable, "-c", CHURN, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "begun\n"
        for _ in range(200):
            assert room_bytes(tmp_path) > 300
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
