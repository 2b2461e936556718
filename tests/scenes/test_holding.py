"""A folder is held by one process at a time, and by nobody once that is dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from aftermap.scenes.errors import Refused
from aftermap.scenes.holding import LOCK, OWNER, file_held, holding
from holders import holder


def test_a_second_one_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    with (
        holder(tmp_path / "out", "training") as process,
        pytest.raises(Refused, match=rf"another training \(process {process.pid} on .* since 20"),
        holding(tmp_path / "out", "training"),
    ):
        pass
    with holding(tmp_path / "out", "training"):
        pass


def test_of_one_that_was_killed_the_next_takes_over(tmp_path: Path) -> None:
    with holder(tmp_path, "study") as process:
        process.kill()
        process.wait()
        assert (tmp_path / OWNER).exists(), "it could not tidy up"
        with holding(tmp_path, "study"):
            assert str(process.pid) not in (tmp_path / OWNER).read_text()


@pytest.mark.parametrize("there", [None, (), ("photo.jpg",)])
def test_where_nothing_was_begun_nothing_is_left(
    there: tuple[str, ...] | None, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    for name in there or ():
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
    if there == ():
        folder.mkdir()
    with pytest.raises(ZeroDivisionError), holding(folder, "run"):
        raise ZeroDivisionError
    assert folder.exists() == (there is not None)
    assert not folder.exists() or sorted(path.name for path in folder.iterdir()) == [*(there or ())]


def test_what_was_begun_stays_with_its_lock(tmp_path: Path) -> None:
    for _ in range(2):
        with holding(tmp_path, "run"):
            (tmp_path / "run.json").touch()
        assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "run.json"]


def test_a_lock_whose_file_was_taken_away_counts_for_nobody(tmp_path: Path) -> None:
    with file_held(tmp_path / LOCK) as mine:
        assert mine
        (tmp_path / LOCK).unlink()
        with file_held(tmp_path / LOCK) as others:
            assert others, "another file of that name is another lock"


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(Refused, match=r"cannot be written to .*-o"), holding(tmp_path / "out", "x"):
        pass


def test_nobody_waits(tmp_path: Path) -> None:
    code = (
        "import sys; from aftermap.scenes.holding import file_held\n"
        "with file_held(sys.argv[1]) as mine: print(mine)"
    )
    with file_held(tmp_path / LOCK):
        told = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / LOCK)], capture_output=True, text=True
        )
    assert told.stdout == "False\n", told.stderr
