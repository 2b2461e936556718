"""What a run's tables are made of, on disk between one pass and the next.

A spool is an SQLite file beside the run that lives as long as its tables are being made. What goes
in comes in any order; what comes out is sorted, and never more than a block of it is in memory.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from ..kernels.stitch import Components
from ..kernels.tally import Shapes, Tally
from ..scenes.footprints import Block
from ..scenes.shift_field import Moves

BLOCK = 20_000
"""Rows of a table in memory at once."""

PORTION = 2_000
"""Buildings that a worker makes rows of at once."""

SHIFT_COLUMNS = ("shift_x_m", "shift_y_m", "align_conf")
"""What is known of the shift at a footprint."""


class Spool:
    """A throw-away database."""

    tables: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self.rows = sqlite3.connect(path, isolation_level=None)
        self.rows.execute("pragma journal_mode = off")
        self.rows.execute("pragma synchronous = off")
        for table in self.tables:
            self.rows.execute(f"create table {table}")

    def insert(self, table: str, rows: Iterable[Sequence[object]], width: int) -> None:
        """Add rows of a table in one go."""
        self.rows.execute("begin")
        marks = ", ".join("?" * width)
        self.rows.executemany(f"insert into {table} values ({marks})", rows)
        self.rows.execute("commit")

    def close(self) -> None:
        """Remove the file."""
        self.rows.close()
        self.path.unlink(missing_ok=True)


class ComponentSpool(Spool):
    """Components, given back in the order of their first pixel."""

    tables = ("parts (first integer primary key, counts blob, shape blob)",)

    def add(self, components: Components) -> None:
        """Keep some components."""
        rows = zip(
            components.first.tolist(),
            (row.tobytes() for row in components.counts),
            shapely.to_wkb(components.geometry),
            strict=True,
        )
        self.insert("parts", rows, 3)

    def blocks(self) -> Iterator[Components]:
        """All components."""
        found = self.rows.execute("select first, counts, shape from parts order by first")
        while rows := found.fetchmany(PORTION):
            first, counts, shapes = zip(*rows, strict=True)
            yield Components(
                np.array(first, np.int64),
                np.frombuffer(b"".join(counts), np.int64).reshape(len(rows), -1),
                shapely.from_wkb(np.array(shapes, object)),
            )


@dataclass(frozen=True, eq=False)
class Counted:
    """Some footprints with what was counted in them."""

    frame: gpd.GeoDataFrame
    """`position`, `source_id`, the shift at each where it is known, and their own `geometry`."""
    shapes: Shapes
    """The same as they were counted: moved, in pixel coordinates."""
    tallies: tuple[Tally, ...]
    """Counts by row of `shapes`; one for all of them, or none."""


class FootprintSpool(Spool):
    """Supplied footprints, given out by rows of chunks, and given back with their counts."""

    tables = (
        "footprints (position integer primary key, source_id text, shape blob, pixels blob, "
        "x_m real, y_m real, confidence real)",
        "near (chunk_row integer, position integer, primary key (chunk_row, position)) "
        "without rowid",
        "counts (position integer, counts blob)",
        "problems (position integer, source_id text, kept integer, reason text)",
    )

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.totals: Counter[str] = Counter()

    def add(self, block: Block, shapes: Shapes, moves: Moves | None, near: np.ndarray) -> None:
        """Keep a block of footprints.

        `shapes` are the same in pixel coordinates, as they will be counted, and `near` the first
        and last row of chunks that each may touch, (n, 2).
        """
        frame, told = block.frame, block.problems
        self.totals.update({**block.counts, "problems": len(told)})
        position = frame["position"].tolist()
        nothing = [None] * len(frame)
        known = (moves.x_m, moves.y_m, moves.confidence) if moves is not None else ()
        shifts = [values.tolist() for values in known] or [nothing] * 3
        wkb = [shapely.to_wkb(each) for each in (frame.geometry.to_numpy(), shapes.geometry)]
        ids = [None if pd.isna(value) else value for value in frame["source_id"]]
        self.insert("footprints", zip(position, ids, *wkb, *shifts, strict=True), 7)
        touched = (
            (row, place)
            for place, (low, high) in zip(position, near.tolist(), strict=True)
            for row in range(low, high + 1)
        )
        self.insert("near", touched, 2)
        names = [None if pd.isna(value) else value for value in told["source_id"]]
        kept = told["kept"].astype(int).tolist()
        rows = zip(told["position"].tolist(), names, kept, told["reason"].tolist(), strict=True)
        self.insert("problems", rows, 4)

    def chunk_row(self, row: int) -> Shapes:
        """The footprints that may touch a row of chunks, in the order of their positions."""
        found = self.rows.execute(
            "select position, pixels from near join footprints using (position) "
            "where chunk_row = ? order by position",
            (row,),
        ).fetchall()
        return _shapes(found)

    def count(self, tally: Tally) -> None:
        """Keep what was counted in one chunk."""
        rows = zip(tally.index.tolist(), (row.tobytes() for row in tally.counts), strict=True)
        self.insert("counts", rows, 2)

    def blocks(self) -> Iterator[Counted]:
        """All footprints in the order of their positions, with their counts."""
        self.rows.execute("create index if not exists counted on counts (position)")
        found = self.rows.execute("select * from footprints order by position")
        while rows := found.fetchmany(PORTION):
            yield self._counted(rows)

    def problems(self) -> Iterator[pd.DataFrame]:
        """What was not right with the footprints of the file, in its order."""
        found = self.rows.execute(
            "select position, source_id, kept, reason from problems order by position, reason"
        )
        while rows := found.fetchmany(BLOCK):
            columns = ["position", "source_id", "kept", "reason"]
            table = pd.DataFrame(rows, columns=columns)
            kinds = {"source_id": "str", "kept": "bool", "reason": "str"}
            yield table.astype(kinds)

    def _counted(self, rows: list[tuple]) -> Counted:
        position, ids, own, pixels, *shifts = zip(*rows, strict=True)
        frame = gpd.GeoDataFrame(
            {"position": np.array(position, np.int64), "source_id": pd.Series(ids, dtype=object)},
            geometry=shapely.from_wkb(np.array(own, object)),
        )
        if shifts[0][0] is not None:
            for name, values in zip(SHIFT_COLUMNS, shifts, strict=True):
                frame[name] = np.array(values, np.float64)
        shapes = _shapes(list(zip(position, pixels, strict=True)))
        parts = self.rows.execute(
            "select position, counts from counts where position between ? and ?",
            (position[0], position[-1]),
        ).fetchall()
        if not parts:
            return Counted(frame, shapes, ())
        places, blobs = zip(*parts, strict=True)
        at = np.searchsorted(shapes.index, np.array(places, np.int64))
        counts = np.frombuffer(b"".join(blobs), np.int64).reshape(len(parts), -1)
        size = len(frame)
        total = np.zeros((size, counts.shape[1]), np.int64)
        np.add.at(total, at, counts)
        return Counted(frame, shapes, (Tally(np.arange(size), total),))


def _shapes(rows: list[tuple[int, bytes]]) -> Shapes:
    position = np.array([place for place, _ in rows], np.int64)
    blobs = np.array([blob for _, blob in rows], object)
    return Shapes(position, shapely.from_wkb(blobs))
