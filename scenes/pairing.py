"""Which image before and which after an event are assessed together, and for which ground."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import shapely

from .catalog import CatalogImage, ScenePair
from .cores import disjoint_cores
from .grid import polygonal
from .left_out import LeftOut, printable

MIN_COVER = 0.1
"""Share of an after image that a before image must show, and share of new ground that makes an
untiled pair worth a scene."""

_SLIVER = 1e-6
"""Share of a ground that is no ground in common, but two outlines that touch."""

_CANDIDATES = 20
"""Images of a place, before and after each, of which every combination is looked at."""

_WORDS = 69
"""Characters of a scene's name before a digest."""

_EARLY, _LATE = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Choice:
    """Two images chosen for each other, before the ground is divided among the scenes."""

    pre: CatalogImage | None
    post: CatalogImage
    ground: shapely.Geometry
    """What the scene would answer for if it were alone: the tile's cell, or what the images show."""
    seen: shapely.Geometry
    """What the images show of that ground."""
    why: str
    scene_id: str = ""
    """The name wanted; empty to take the place's, or the after image's."""
    least: float = 0.0
    """Share of what it shows that must be left to it."""


def choose(
    before: Sequence[CatalogImage],
    after: Sequence[CatalogImage],
    left_out: LeftOut,
    *,
    needs_before: bool = True,
    area: shapely.Geometry | None = None,
) -> list[Choice]:
    """The best pair at each place, and for images of no tiling, by overlap.

    Two images that show no common ground are no pair. The others are compared by one figure after
    the other: the share of the ground that both images show, in tenths; the cloud of the two
    together, in steps of 10 %; their angles off nadir together, in steps of 10 degrees (unknown
    figures count as the worst); the earliest after image; the latest before image. A place without
    a before image of its own takes one of no tiling that shows MIN_COVER of it.
    """
    choices: list[Choice] = []
    loose_pre = [image for image in before if image.place is None]
    loose_post = [image for image in after if image.place is None]
    tree = shapely.STRtree([image.outline for image in loose_pre])
    pre_places, post_places = _by_place(before), _by_place(after)
    for place in sorted(post_places):
        ground = _ground(post_places[place], area)
        if ground.is_empty:
            left_out.add("outside the area asked for", place, "place")
            continue
        candidates = pre_places.get(place, []) or [
            loose_pre[i] for i in np.sort(tree.query(ground)) if _covers(loose_pre[i], ground)
        ]
        if needs_before and not candidates:
            left_out.add("no before image of it", place, "place")
            continue
        chosen = _at_place(candidates if needs_before else [], post_places[place], ground, left_out)
        if chosen:
            choices.append(chosen)
        else:
            common = "its before and after images show no common ground"
            left_out.add(
                common if needs_before else "its images show nothing of it", place, "place"
            )
    if needs_before:
        for place in sorted(pre_places.keys() - post_places.keys()):
            left_out.add("no after image of it", place, "place")
    choices += _by_overlap(loose_pre if needs_before else None, loose_post, left_out, area)
    used = {choice.pre.href for choice in choices if choice.pre}
    for image in loose_pre if needs_before else ():
        if image.href not in used:
            left_out.add("the best before image for no after image", image.name, "before image")
    return choices


def pairs_of(
    choices: Sequence[Choice], left_out: LeftOut, base: Path | None = None
) -> tuple[ScenePair, ...]:
    """Scenes with disjoint ground and names of their own, ordered by name.

    Earlier choices have the first right to ground that several of them show. A scene is called by
    the name wanted for it or by its place. Other images' names may come more than once, so that a
    digest of the after image's address follows them (of a local path, from `base` on): whatever is
    added to a catalog, the other scenes keep their names.
    """
    cores = disjoint_cores(
        [c.ground for c in choices], [c.seen for c in choices], [c.least for c in choices]
    )
    names: set[str] = set()
    pairs = []
    for choice, core in zip(choices, cores, strict=True):
        wanted = choice.scene_id or choice.post.place or choice.post.name
        if core.is_empty:
            reason = "its ground is shown by scenes chosen before it"
            left_out.add(reason, printable(wanted), "pair")
            continue
        name = slug(wanted)
        if not (choice.scene_id or choice.post.place):
            name = f"{name[:_WORDS]}-{_digest(choice.post, base=base)}"
        # A name wanted twice; and folders of some file systems do not tell cases apart.
        if name.casefold() in names:
            name = f"{name[:_WORDS]}-{_digest(choice.post, choice.pre, base=base)}"
        names.add(name.casefold())
        pairs.append(ScenePair(name, choice.pre, choice.post, core, choice.why))
    return tuple(sorted(pairs, key=lambda pair: pair.scene_id))


def listed(
    scene_id: str,
    pre: CatalogImage | None,
    post: CatalogImage,
    area: shapely.Geometry | None = None,
) -> Choice | None:
    """A pair that someone chose by hand; None where the images, or the area, have nothing in common."""
    shapes = [post.outline, *([pre.outline] if pre else []), *([area] if area else [])]
    seen = polygonal(shapely.intersection_all(shapes))
    if seen.area <= _SLIVER * post.outline.area:
        return None
    return Choice(pre, post, seen, seen, "Given as a pair in the list.", scene_id)


def slug(text: str) -> str:
    """Text as a name of letters, digits, '-' and '_' only, of at most 80 characters."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:80] or "scene"


def _by_place(images: Iterable[CatalogImage]) -> dict[str, list[CatalogImage]]:
    places: dict[str, list[CatalogImage]] = {}
    for image in images:
        if image.place is not None:
            places.setdefault(image.place, []).append(image)
    return places


def _at_place(
    before: Sequence[CatalogImage],
    after: Sequence[CatalogImage],
    ground: shapely.Geometry,
    left_out: LeftOut,
) -> Choice | None:
    """The best combination at one place; None where no two images show common ground."""
    best: tuple[tuple[object, ...], CatalogImage | None, CatalogImage, shapely.Geometry] | None
    best = None
    posts = _shortlist(after, ground, late=False)
    pres: list[tuple[CatalogImage | None, shapely.Geometry]] = [
        (image, shapely.intersection(image.outline, ground))
        for image in _shortlist(before, ground, late=True)
    ] or [(None, ground)]
    for post in posts:
        shown = shapely.intersection(post.outline, ground)
        for pre, also in pres:
            seen = polygonal(shapely.intersection(shown, also))
            if seen.area <= _SLIVER * ground.area:
                continue
            rank = _rank(seen.area / ground.area, pre, post)
            if best is None or rank < best[0]:
                best = rank, pre, post, seen
    if best is None:
        return None
    _, pre, post, seen = best
    for image in (*before, *after):
        if image is pre or image is post or image.place is None:
            continue
        left_out.add("another image of its place was chosen", f"{image.place}/{image.name}")
    why = _why(seen.area / ground.area, "the tile", pre, post, len(before), len(after))
    return Choice(pre, post, seen if post.cell is None else ground, seen, why)


def _covers(image: CatalogImage, ground: shapely.Geometry) -> bool:
    return shapely.intersection(image.outline, ground).area >= MIN_COVER * ground.area


def _ground(images: Sequence[CatalogImage], area: shapely.Geometry | None) -> shapely.Geometry:
    """The ground of a place that is wanted: its cell, or without one what its images show."""
    cell = next((image.cell for image in images if image.cell is not None), None)
    ground = cell or shapely.union_all([image.outline for image in images])
    return ground if area is None else polygonal(shapely.intersection(ground, area))


def _by_overlap(
    before: Sequence[CatalogImage] | None,
    after: Sequence[CatalogImage],
    left_out: LeftOut,
    area: shapely.Geometry | None,
) -> list[Choice]:
    """For each untiled after image the best before image over it, the best choices first."""
    found: list[tuple[tuple[object, ...], Choice]] = []
    tree = shapely.STRtree([image.outline for image in before or ()])
    for post in after:
        wanted = post.outline
        if area is not None:
            wanted = polygonal(shapely.intersection(wanted, area))
        if wanted.is_empty:
            left_out.add("outside the area asked for", post.name)
            continue
        if before is None:
            why = _why(1.0, "itself", None, post, 0, 1)
            choice = Choice(None, post, wanted, wanted, why, least=MIN_COVER)
            found.append((_rank(1.0, None, post), choice))
            continue
        over = [before[i] for i in np.sort(tree.query(wanted, predicate="intersects"))]
        best = _best_over(over, post, wanted)
        if best is None:
            reason = f"no before image shows {MIN_COVER * 100:.0f} % of it"
            left_out.add(reason, post.name, "after image")
        else:
            found.append(best)
    return [choice for _, choice in sorted(found, key=lambda entry: entry[0])]


def _best_over(
    before: Sequence[CatalogImage], post: CatalogImage, ground: shapely.Geometry
) -> tuple[tuple[object, ...], Choice] | None:
    """The before image that suits an after image best, and its rank; None if none shows enough."""
    images = _shortlist(before, ground, late=True)
    outlines = np.array([image.outline for image in images], dtype=object)
    shared = shapely.intersection(outlines, ground)
    shares = shapely.area(shared) / ground.area
    ranked = [
        (_rank(share, pre, post), share, pre, seen)
        for pre, share, seen in zip(images, shares, shared, strict=True)
        if share >= MIN_COVER
    ]
    if not ranked:
        return None
    rank, share, pre, seen = min(ranked, key=lambda entry: entry[0])
    seen = polygonal(seen)
    why = _why(share, "the after image", pre, post, len(before), 1)
    return rank, Choice(pre, post, seen, seen, why, least=MIN_COVER)


def _shortlist(
    images: Sequence[CatalogImage], ground: shapely.Geometry, late: bool
) -> list[CatalogImage]:
    """The best few of a place taken alone, so that a long series does not make every combination.

    For speed their share of the ground is that of their bounding box in its bounding box.
    """
    if len(images) <= _CANDIDATES:
        return list(images)
    boxes = np.array([image.outline.bounds for image in images])
    low = np.maximum(boxes[:, :2], ground.bounds[:2])
    high = np.minimum(boxes[:, 2:], ground.bounds[2:])
    shares = np.prod(np.maximum(high - low, 0), axis=1) / shapely.box(*ground.bounds).area
    order = sorted(
        range(len(images)),
        key=lambda i: (*_quality(shares[i], (images[i],)), _days(images[i], late), images[i].href),
    )
    return [images[i] for i in order[:_CANDIDATES]]


def _rank(share: float, pre: CatalogImage | None, post: CatalogImage) -> tuple[object, ...]:
    """The lower, the better; see `choose`. Addresses decide between equals, so that runs agree."""
    both = (post,) if pre is None else (pre, post)
    late = _days(pre, late=True) if pre else 0.0
    hrefs = [image.href for image in both]
    return (*_quality(share, both), _days(post, late=False), late, *reversed(hrefs))


def _quality(share: float, images: Sequence[CatalogImage]) -> tuple[int, int, int]:
    cloud = sum(100.0 if i.cloud is None else i.cloud for i in images)
    tilt = sum(90.0 if i.off_nadir is None else i.off_nadir for i in images)
    return -int(share * 10 + 1e-6), int(cloud // 10), int(tilt // 10)


def _days(image: CatalogImage, late: bool) -> float:
    """Days by which the earliest image sorts first, or the latest; those without a date come last."""
    if image.time is None:
        return float("inf")
    return (_LATE - image.time if late else image.time - _EARLY).total_seconds() / 86400


def _why(
    share: float,
    of: str,
    pre: CatalogImage | None,
    post: CatalogImage,
    befores: int,
    afters: int,
) -> str:
    """How the images were chosen, in a sentence."""
    part = f"{share * 100:.0f} %" if share >= 0.01 else "less than 1 %"
    shown = f"{'shows' if pre is None else 'together show'} {part} of {of}"
    if pre is None:
        return f"After {_figures(post)} {shown}; chosen from {_number(afters, 'after image')}."
    return (
        f"Before {_figures(pre)} and after {_figures(post)} {shown}; chosen from "
        f"{_number(befores, 'before image')} and {_number(afters, 'after image')}."
    )


def _figures(image: CatalogImage) -> str:
    figures = []
    if image.time is not None:
        figures.append(f"{image.time:%Y-%m-%d}")
    if image.cloud is not None:
        figures.append(f"{image.cloud:g} % cloud")
    if image.off_nadir is not None:
        figures.append(f"{image.off_nadir:.0f} degrees off nadir")
    return f"{printable(image.name, 60)} ({', '.join(figures) or 'no date in its name'})"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _digest(*images: CatalogImage | None, base: Path | None) -> str:
    """Ten digits that tell images apart by where they are."""
    text = "\n".join(_address(image, base) for image in images if image is not None)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:10]


def _address(image: CatalogImage, base: Path | None) -> str:
    """A URL as it is, a path from `base` on: neither a copy nor a move of all makes a difference."""
    href = image.copy_of or image.href
    if base is None or "://" in href:
        return href
    return Path(os.path.relpath(os.path.realpath(href), os.path.realpath(base))).as_posix()
