"""The pairs of a region: its images read from their source, sifted, paired, and the ground divided."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import shapely

from ...scenes.catalog import CatalogImage, Pairing, ScenePair
from ...scenes.catalog_files import Placing, read_folder, read_list
from ...scenes.catalog_item import is_remote, shown_href
from ...scenes.catalog_maxar import read_maxar
from ...scenes.errors import Refused, UsageError
from ...scenes.grid import lonlat_box, polygonal, read_polygons
from ...scenes.pairing import Choice, choose, listed, pairs_of
from ...scenes.reading import Reading
from ...scenes.sift import Limits, by_event, good_enough, local_copies, without_duplicates
from .file import Images


def find_pairs(
    images: Images, *, needs_before: bool = True, crs: str | None = None, gcps: bool = False
) -> Pairing:
    """The pairs of images that a region's `[images]` table asks for; headers only, no pixel is read.

    `needs_before=False` is for methods that look at the after image alone: each place is then one
    scene without a before image. `crs` and `gcps` place the files of a folder or list, as in
    `assess`. Raises Refused or UsageError, in words, where no pair can be made.
    """
    reading = Reading(images.asset, images.event_date)
    area = wanted_area(images.bbox, images.aoi)
    placing = Placing(crs, gcps)
    if images.kind == "list":
        return _listed(images, reading, area, placing, needs_before)
    if images.kind == "folder":
        befores, afters, counts = from_folders(images, reading, placing)
    else:
        befores, afters, counts = from_catalog(images, reading, area)
    counts |= {"before": len(befores), "after": len(afters)}
    _check_dates(images, reading, befores, afters, needs_before)
    limits = Limits(area, images.max_cloud, images.max_off_nadir)
    befores, afters = (
        good_enough(group, limits, reading.left_out)
        for group in (befores if needs_before else [], afters)
    )
    root = copies_root(images, [*befores, *afters])
    befores, afters = (local_copies(group, root, reading.left_out) for group in (befores, afters))
    counts |= _figures(befores, afters, needs_before)
    choices = choose(befores, afters, reading.left_out, needs_before=needs_before, area=area)
    return _pairing(images, reading, choices, counts)


def wanted_area(
    bbox: tuple[float, float, float, float] | None, aoi: str | None
) -> shapely.Geometry | None:
    """The area asked for in EPSG:4326: box and polygons, or what both have in common; None for all."""
    area = None if bbox is None else lonlat_box(bbox, "[images] bbox")
    if aoi is not None:
        polygons = read_polygons(aoi, "EPSG:4326", "[images] aoi")
        area = polygons if area is None else polygonal(shapely.intersection(area, polygons))
    if area is not None and area.is_empty:
        raise Refused("[images] bbox and aoi have no area in common.")
    return area


def from_folders(
    images: Images, reading: Reading, placing: Placing
) -> tuple[list[CatalogImage], list[CatalogImage], dict[str, int]]:
    """The images of the two folders, each once, and how many were found."""
    groups = []
    for folder in (str(images.before), str(images.after)):
        reading.images = []
        read_folder(folder, reading, placing)
        groups.append(_on_their_side(images, reading, folder))
    shared = {i.href for i in groups[0]} & {i.href for i in groups[1]}
    if shared:
        raise Refused(
            f"[images] before = {images.before!r} and after = {images.after!r} share {len(shared)} "
            f"files, such as {min(shared)}. Give two folders, neither inside the other."
        )
    (before, dropped), (after, more) = (without_duplicates(group) for group in groups)
    return before, after, {"images": reading.found, "duplicates removed": dropped + more}


def from_catalog(
    images: Images, reading: Reading, area: shapely.Geometry | None
) -> tuple[list[CatalogImage], list[CatalogImage], dict[str, int]]:
    """A catalog's images before and after the event, each once, and how many were found."""
    if images.event_date is None:
        raise UsageError('[images] needs event_date = "...", the first day after.')
    _read_catalog(images, reading, area)
    unique, dropped = without_duplicates(reading.images)
    before_images, after_images = by_event(unique, images.event_date, reading.left_out)
    counts = {"images": reading.found, "duplicates removed": dropped}
    return before_images, after_images, counts


def _read_catalog(images: Images, reading: Reading, area: shapely.Geometry | None) -> None:
    """Read a Maxar or STAC catalog; Maxar's may be STAC too."""
    path = str(images.path)
    if images.kind == "maxar" and "://" not in path and read_maxar(path, reading):
        return
    try:
        from ...scenes.catalog_stac import read_stac
    except ImportError as error:
        raise Refused(
            f"[images] path = {shown_href(path)!r} is read with pystac and pystac-client, of which "
            f'{error.name} is not installed: pip install "aftermap[stac]".'
        ) from error
    read_stac(
        path,
        reading,
        collections=images.collections,
        area=area,
        allow_remote=images.allow_remote,
    )


def _on_their_side(images: Images, reading: Reading, folder: str) -> list[CatalogImage]:
    """The images of a folder without those whose own date says that they belong to the other."""
    if images.event_date is None:
        return reading.images
    undated = [image for image in reading.images if image.time is None]
    dated = [image for image in reading.images if image.time is not None]
    sides = by_event(dated, images.event_date, reading.left_out)
    here, wrong = sides if folder == images.before else sides[::-1]
    for image in wrong:
        reason = f"its date lies on the other side of event_date = {images.event_date}"
        reading.left_out.add(reason, image.name)
    return undated + here


def copies_root(images: Images, wanted: list[CatalogImage]) -> Path | None:
    """The folder of local copies; refused where files lie on the network and must not be read there."""
    if images.root is not None:
        root = Path(images.root).absolute()
        if not root.is_dir():
            raise Refused(f"[images] root = {images.root!r} is not a folder.")
        return root
    remote = [image.href for image in wanted if is_remote(image.href)]
    if remote and not images.allow_remote:
        raise Refused(
            f"The files of {len(remote)} images lie on the network, such as {remote[0]}. Give root, "
            "a folder with local copies, or allow reading them with --allow-remote."
        )
    return None


def _figures(
    befores: list[CatalogImage], afters: list[CatalogImage], needs_before: bool
) -> dict[str, int]:
    """What there is to choose from."""
    before, after = ({i.place for i in group if i.place} for group in (befores, afters))
    good = {"after within limits": len(afters)}
    if not needs_before:
        return good | {"places": len(after)}
    return {
        "before within limits": len(befores),
        **good,
        "places": len(before | after),
        "places with both dates": len(before & after),
    }


def _check_dates(
    images: Images,
    reading: Reading,
    befores: list[CatalogImage],
    afters: list[CatalogImage],
    needs_before: bool,
) -> None:
    where = _source(images)
    if not reading.found:
        raise Refused(f"[images] {where} holds no image: the catalog is empty.")
    if not befores and not afters:
        raise Refused(
            f"None of the {reading.found} images of {where} can be used.{_reasons(reading)}"
        )
    event = f" (event_date = {images.event_date})" if images.event_date else ""
    if not afters:
        raise Refused(
            f"All {len(befores)} usable images of {where} are from before the event{event}, and none "
            f"from after it. Check event_date and the source.{_reasons(reading)}"
        )
    if needs_before and not befores:
        raise Refused(
            f"All {len(afters)} usable images of {where} are from after the event{event}, and the "
            "method compares them with images from before. Add such images or correct event_date; "
            f"only methods that look at the after image alone do without.{_reasons(reading)}"
        )


def _listed(
    images: Images,
    reading: Reading,
    area: shapely.Geometry | None,
    placing: Placing,
    needs_before: bool,
) -> Pairing:
    rows = read_list(str(images.path), reading, placing, needs_before=needs_before)
    if not reading.found:
        raise Refused(f"[images] {images.path} lists no pair.")
    choices: list[Choice] = []
    for scene_id, before, after in rows:
        choice = listed(scene_id, before, after, area)
        if choice is None:
            reason = "its images (and the area asked for) have no ground in common"
            reading.left_out.add(reason, scene_id or after.name, "pair")
        else:
            choices.append(choice)
    counts = {
        "pairs listed": reading.found,
        "before": sum(before is not None for _, before, _ in rows),
        "after": len(rows),
    }
    return _pairing(images, reading, choices, counts)


def _pairing(
    images: Images, reading: Reading, choices: list[Choice], counts: dict[str, int]
) -> Pairing:
    pairs = pairs_of(choices, reading.left_out, _base(images))
    if not pairs:
        raise Refused(
            f"No pair can be made of the {reading.found} entries of "
            f"{_source(images)}.{_reasons(reading)}"
        )
    _check_order(images, pairs)
    return Pairing(pairs, reading.lines(), counts | {"pairs": len(pairs)})


def _check_order(images: Images, pairs: Sequence[ScenePair]) -> None:
    """Refuse pairs that run backwards: what the event destroyed would be mapped as intact."""
    times = [(p, p.pre.time, p.post.time) for p in pairs if p.pre is not None]
    wrong = [(p, a, b) for p, a, b in times if a is not None and b is not None and a > b]
    if wrong:
        pair, before, after = wrong[0]
        raise Refused(
            f"{len(wrong)} of the {len(pairs)} pairs of {_source(images)} have a before image that was "
            f"taken after their after image: that of {pair.scene_id} is of {before:%Y-%m-%d}, and the "
            f"after image of {after:%Y-%m-%d}. Check [images]: before and after may be the wrong way round."
        )


def _base(images: Images) -> Path | None:
    """The folder that the paths of after images are taken from when they are told apart."""
    if images.kind == "folder":
        return Path(str(images.after))
    return None if is_remote(str(images.path)) else Path(str(images.path)).parent


def _source(images: Images) -> str:
    """Where the images come from, as it may be printed."""
    return shown_href(images.path) if images.path else f"{images.before} and {images.after}"


def _reasons(reading: Reading) -> str:
    """The most frequent reasons for leaving images out, for the end of a refusal."""
    lines = list(reading.left_out.lines())[:4]
    return f" Left out: {'; '.join(lines)}." if lines else ""
