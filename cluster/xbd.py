"""A folder of xBD looked through: what is in it, what is wrong with it, and its targets drawn."""

from __future__ import annotations

import json
import warnings
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import NotGeoreferencedWarning

from ..models.chips.xbd_layout import (
    XbdTile,
    find_tiles,
    labelled_by,
    parts_of,
    stray_labels,
    target_stem,
)
from ..models.chips.xbd_targets import RULES, TargetRules, drawn, drawn_before
from ..models.chips.xbd_tile import Examined, Unusable, examine, read_target
from ..models.chips.xbd_write import write_target
from ..scenes.errors import Refused, UsageError
from ..scenes.layer import NOT_ANALYSED
from ..scenes.left_out import LeftOut, printable
from ..scenes.legend import LEVELS
from ..scenes.vectors import replacing_folder
from ..scenes.xbd import SUBTYPES, XbdLabel
from ..scenes.xbd_ground import located
from .machine import cores
from .progress import RunProgress

ABOUT = "targets.json"
"""Lies in a folder of targets, and says by which rules they were drawn."""

_CODES = (*LEVELS, NOT_ANALYSED)
_HEADS = ("tiles", "pairs", "no damage", "minor", "major", "destroyed", "un-classified", "area")
_NAMES = {code: name for name, code in SUBTYPES.items()}


@dataclass
class Tally:
    """What some tiles hold, added up."""

    tiles: int = 0
    pairs: int = 0
    """Tiles that can be used."""
    labelled: int = 0
    """Pairs whose buildings are known from a label; of targets no buildings can be counted."""
    buildings: Counter[int] = field(default_factory=Counter)
    """By damage code; 255 are those un-classified or without a level."""
    pixels: Counter[int] = field(default_factory=Counter)
    """By damage code, of pairs with a label or a target."""

    def __iadd__(self, other: Tally) -> Tally:
        self.tiles += other.tiles
        self.pairs += other.pairs
        self.labelled += other.labelled
        self.buildings += other.buildings
        self.pixels += other.pixels
        return self

    def share(self, code: int) -> float:
        """The part of all pixels that a damage code covers."""
        return self.pixels[code] / max(self.pixels.total(), 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "tiles": self.tiles,
            "pairs": self.pairs,
            "labelled": self.labelled,
            "buildings": {_NAMES[code]: self.buildings[code] for code in _CODES},
            "area_share": {_NAMES[code]: self.share(code) for code in _CODES},
        }


@dataclass(frozen=True)
class XbdSurvey:
    """What a folder of xBD holds."""

    path: Path
    rules: str
    """Those by which areas were counted and targets drawn."""
    by_folder: Mapping[str, Tally]
    by_disaster: Mapping[str, Tally]
    parts: Mapping[str, str]
    """What each folder is for in training, where the folders tell."""
    left_out: tuple[str, ...]
    """How many tiles could not be used, why, and the names of a few."""
    problems: tuple[str, ...]
    """What is wrong with tiles that are used all the same, likewise."""
    targets: Path | None = None

    @property
    def total(self) -> Tally:
        """All tiles together."""
        whole = Tally()
        for tally in self.by_folder.values():
            whole += tally
        return whole

    @property
    def exit_code(self) -> int:
        """0 done, 4 with tiles left out."""
        return 4 if self.left_out else 0

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "data": str(self.path),
            "outlines_on": XbdLabel.outlines_on,
            "rules": self.rules,
            "parts": dict(self.parts),
            "total": self.total.to_dict(),
            "by_folder": {name: tally.to_dict() for name, tally in self.by_folder.items()},
            "by_disaster": {name: tally.to_dict() for name, tally in self.by_disaster.items()},
            "left_out": list(self.left_out),
            "problems": list(self.problems),
            "targets": None if self.targets is None else str(self.targets),
        }

    def text(self) -> str:
        """The figures, for the command line."""
        whole = self.total
        lines = _table({"all": whole}, "")
        lines += _table(self.by_folder, "folder") if len(self.by_folder) > 1 else []
        lines += _table(self.by_disaster, "disaster")
        if self.parts:
            parts = ", ".join(f"{name} is {part}" for name, part in self.parts.items())
            lines.append(f"parts      {parts}")
        area = ", ".join(f"{whole.share(code):.3%} {_NAMES[code]}" for code in _CODES)
        lines.append(f"area       {area}; rules {self.rules}")
        lines.append(f"outlines   follow the image {XbdLabel.outlines_on} the event")
        for title, told in (("left out", self.left_out), ("problems", self.problems)):
            lines += [f"{title if not k else '':<10} {line}" for k, line in enumerate(told)]
        if self.targets is not None:
            lines.append(f"targets    {self.targets}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Seen:
    """What came of one tile."""

    tile: XbdTile
    disaster: str
    tally: Tally
    unusable: Unusable | None = None
    problems: tuple[tuple[str, str], ...] = ()
    """What is wrong, and where."""


@dataclass(frozen=True)
class _Sums:
    """What came of all tiles so far."""

    by_folder: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    by_disaster: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    left_out: LeftOut = field(default_factory=LeftOut)
    problems: LeftOut = field(default_factory=LeftOut)

    def add(self, seen: _Seen) -> None:
        """Count one more tile."""
        self.by_folder[seen.tile.prefix.rstrip("/") or "."] += seen.tally
        self.by_disaster[seen.disaster] += seen.tally
        if seen.unusable is not None:
            file = seen.tile.prefix + seen.unusable.file
            self.left_out.add(seen.unusable.reason, file, "tile")
        for what, where in seen.problems:
            self.problems.add(what, seen.tile.prefix + where, "case")


def run_xbd(arguments: Mapping[str, Any]) -> int:
    """Carry out `aftermap xbd` from its arguments; returns the exit code."""
    rules, unclassified = arguments["rules"], arguments["unclassified"]
    as_json = bool(arguments["as_json"])
    done = survey(
        arguments["data"], arguments["targets"], rules, unclassified, arguments["geotiff"], as_json
    )
    print(json.dumps(done.to_dict(), indent=2) if as_json else done.text())
    return done.exit_code


def survey(
    data: Path,
    targets: Path | None = None,
    rules: str = "dual-hrnet",
    unclassified: str | None = None,
    geotiff: bool = False,
    quiet: bool = True,
) -> XbdSurvey:
    """Read every file of a folder of xBD, and draw its targets into another one if asked.

    `rules` is a name of `RULES`; `unclassified` is "ignore" or "no-damage", by default what the
    rules say. Targets are PNG (or GeoTIFF) `<stem>_target`, uint8: before 0 and 1, after damage
    codes; they lie in `targets`/<folder>/targets/. Raises UsageError for rules that there are not,
    Refused where no tile can be used or where `targets` holds anything but earlier targets.
    """
    chosen, told = _chosen(rules, unclassified)
    if geotiff and targets is None:
        raise UsageError("--geotiff says how targets are written. Give --targets OUT too.")
    found = _found(data)
    if targets:
        _check_free(targets)
    with replacing_folder(targets.resolve()) if targets else nullcontext() as folder:
        sums = _summed(found, partial(_look, rules=chosen, folder=folder, geotiff=geotiff), quiet)
        done = XbdSurvey(
            path=data,
            rules=told,
            by_folder=sums.by_folder,
            by_disaster=dict(sorted(sums.by_disaster.items())),
            parts=parts_of([o.name for o in found if o != data and labelled_by(o)]),
            left_out=tuple(sums.left_out.lines()),
            problems=tuple(sums.problems.lines()),
            targets=targets,
        )
        if not done.total.pairs:
            why = "; ".join(done.left_out)
            raise Refused(f"No tile of {str(data)!r} can be used: {why}. Give a complete folder.")
        if folder is not None:
            about = {**done.to_dict(), "rules_in_full": asdict(chosen)}
            (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return done


def _chosen(name: str, unclassified: str | None) -> tuple[TargetRules, str]:
    """The rules that were asked for, and their name."""
    if name not in RULES:
        raise UsageError(f"There are no rules {name!r}; --rules is one of {', '.join(RULES)}.")
    if unclassified is None:
        return RULES[name], name
    if unclassified == "ignore":
        return replace(RULES[name], unclassified="ignore"), f"{name}, un-classified ignored"
    if unclassified == "no-damage":
        return replace(RULES[name], unclassified="no-damage"), f"{name}, un-classified no damage"
    raise UsageError(f"--unclassified is ignore or no-damage, not {unclassified!r}.")


def _found(data: Path) -> dict[Path, list[XbdTile]]:
    if not data.is_dir():
        raise Refused(f"There is no folder {str(data)!r}. Change DATA.")
    found = find_tiles(data)
    if not found:
        raise Refused(
            f"{str(data)!r} holds no tiles of xBD: neither it nor a folder in it has images/ with "
            "names such as guatemala-volcano_00000000_pre_disaster.png or test_pre_00000.png. "
            "Change DATA."
        )
    return found


def _check_free(targets: Path) -> None:
    """Raise Refused where a folder holds anything that drawing targets did not put there."""
    if not targets.exists():
        return
    if not targets.is_dir():
        raise Refused(f"{str(targets)!r} is a file. Give --targets a new folder.")
    ours = (targets / ABOUT).is_file()
    for path in targets.rglob("*"):
        drawn_here = path.parent.name == "targets" and path.stem.endswith("_target")
        if not path.is_dir() and not (ours and (drawn_here or path == targets / ABOUT)):
            raise Refused(
                f"{str(targets)!r} holds {str(path.relative_to(targets))!r}, which is none of the "
                "targets drawn earlier. Give --targets a new folder."
            )


def _summed(
    found: Mapping[Path, list[XbdTile]], look: Callable[[XbdTile], _Seen], quiet: bool
) -> _Sums:
    """Look at all tiles, several at a time, and add up what comes of them."""
    sums = _Sums()
    for outer, tiles in found.items():
        for label in stray_labels(outer, tiles):
            sums.problems.add("has no image", f"{tiles[0].prefix}labels/{label.name}", "label")
    every = [tile for tiles in found.values() for tile in tiles]
    with RunProgress(len(every), quiet=quiet, noun="tiles") as bar, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        for seen in _in_threads(look, every):
            sums.add(seen)
            bar.advance(seen.tally.pixels.total())
    return sums


def _in_threads(look: Callable[[XbdTile], _Seen], tiles: Iterable[XbdTile]) -> Iterator[_Seen]:
    """What comes of each tile, in order; only a few are in memory at a time."""
    waiting: deque[Future[_Seen]] = deque()
    left = iter(tiles)
    with ThreadPoolExecutor(cores()) as pool:
        try:
            waiting.extend(pool.submit(look, tile) for tile in islice(left, 4 * cores()))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(look, tile) for tile in islice(left, 1))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _look(tile: XbdTile, rules: TargetRules, folder: Path | None, geotiff: bool) -> _Seen:
    """Read a tile, count what it shows, and write its targets."""
    try:
        seen = examine(tile, thoroughly=True)
        codes = _codes(seen, rules)
    except Unusable as error:
        return _Seen(tile, tile.disaster, Tally(tiles=1), error)
    problems = [(problem.what, f"{path.name} {problem.where}") for path, problem in seen.problems]
    tally = Tally(tiles=1, pairs=1, labelled=int(seen.after is not None))
    if codes is not None:
        tally.pixels = Counter(dict(enumerate(np.bincount(codes.ravel()).tolist())))
    if seen.after is None:
        if folder is not None:
            problems.append(("has no label to draw targets from", tile.images["post"].name))
        return _Seen(tile, tile.disaster, tally, problems=tuple(problems))
    tally.buildings = Counter(b.damage_class or NOT_ANALYSED for b in seen.after.buildings)
    if folder is not None and codes is not None:
        where = located(seen.after) if geotiff else None
        if geotiff and where is None:
            problems.append(
                ("does not tell where it lies: no coordinates", tile.label("post").name)
            )
        before = drawn_before(seen.before or seen.after, rules)
        for image, mask in ((tile.images["pre"], before), (tile.images["post"], codes)):
            stem = folder / tile.prefix / "targets" / target_stem(image.stem)
            write_target(stem, mask, geotiff, where)
    named = seen.after.metadata.get("disaster")
    disaster = printable(named) if isinstance(named, str) and named else tile.disaster
    return _Seen(tile, disaster, tally, problems=tuple(problems))


def _codes(seen: Examined, rules: TargetRules) -> np.ndarray | None:
    """The mask after the event; None where nothing is known of it."""
    if seen.after is not None:
        return drawn(seen.after, rules)
    return None if seen.target is None else read_target(seen.target, seen.size)


def _table(rows: Mapping[str, Tally], title: str) -> list[str]:
    """Rows of figures: buildings by level, and the share of the area that all of them cover."""
    lines = [_row(title, _HEADS)]
    for name, tally in rows.items():
        counts = [f"{tally.buildings[c]:,}" if tally.labelled else "-" for c in _CODES]
        area = f"{sum(tally.share(code) for code in _CODES):.2%}" if tally.pixels else "-"
        lines.append(
            _row(printable(name, 27), [f"{tally.tiles:,}", f"{tally.pairs:,}", *counts, area])
        )
    return [*lines, ""]


def _row(name: str, cells: Sequence[str]) -> str:
    widths = (max(len(head) + 2, 10) for head in _HEADS)
    return f"{name:<28}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
