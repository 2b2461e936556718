"""Images as they come into the catalog: rasters where they lie, photos copied, services by their address."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session

from ...models.photos.decode import is_photo, open_photo
from ...scenes.download import Bounds, download
from ...scenes.errors import Refused, UsageError
from ...scenes.grid import gsd
from ...scenes.pair import Pair, acquisition_date, make_pair
from ...scenes.remote import RemoteFile, Unreachable, is_remote
from ..fingerprint import fingerprint_file
from .catalog import Catalog, local_user, note
from .files import Adding, settled
from .photo_place import place_of
from .tables import Scene, User
from .turns import Turns

_TOGETHER = 32
"""Images that are added at once: those who tag meanwhile need not wait for thousands."""

_FETCHING = Turns()

_WAIT_S = 30
"""How long one waits for an image that somebody else fetches, s: a server has other things to answer."""

_RASTERS = frozenset({".tif", ".tiff", ".jp2", ".vrt"})


@dataclass(frozen=True)
class About:
    """What is said of images beside themselves."""

    town: str = ""
    event: str = ""
    taken_at: datetime | None = None
    """Where they do not say it themselves."""
    before: str = ""
    """The catalogued image of the same ground before the event: its number, name or path."""
    bands: Sequence[int] | None = None
    scale: Sequence[float] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """How rasters are read."""
        found: dict[str, Any] = {"bands": self.bands, "scale": self.scale}
        return {name: list(value) for name, value in found.items() if value is not None}


@dataclass
class Added:
    """What became of the images that were given."""

    new: list[Scene] = field(default_factory=list)
    known: list[Scene] = field(default_factory=list)
    """Those that were there already; they stay as they are."""
    unreadable: list[str] = field(default_factory=list)
    """Those of folders that are no image, and why."""


def add_images(
    catalog: Catalog,
    sources: Sequence[str],
    about: About | None = None,
    allow_remote: bool = False,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Added:
    """Add images, or find that they are there: files, folders of files, or addresses of services.

    Images are added a few at a time, each with its file or not at all; called again after an
    interruption it goes on. Raises Refused for a file that was named and is no image, before any is
    added; unreadable files of folders are told instead. An address is fetched by `fetched` when somebody looks at it.
    """
    about = about or About()
    found, told = _listed(sources, allow_remote), Added()
    checked: list[_Image] = []
    for source, named in found:
        try:
            checked.append(_inspected(source, about))
        except Refused as error:
            if named:
                raise
            told.unreadable.append(str(error))
    for first in range(0, len(checked), _TOGETHER):
        images = checked[first : first + _TOGETHER]
        with ExitStack() as stack:
            # Copied before anything is locked: those who tag meanwhile wait for renames only.
            copies = _copied(catalog, images, stack)
            with catalog.adding() as (session, adding):
                user = local_user(session)
                for image in images:
                    scene, new = _added(session, adding, image, copies, about, user)
                    (told.new if new else told.known).append(scene)
        tell(first + len(images), len(checked))
    return told


def fetched(catalog: Catalog, scene: Scene) -> Scene:
    """The scene with its image at hand: one of a service is fetched now, once, whole or not at all.

    Raises Unreachable where the service does not answer, and where another thread has been fetching the same
    image for half a minute; Refused where it sends no image, or lies in the own network and the
    catalog's `private_services` does not allow it.
    """
    if scene.kind != "service":
        return scene
    file = RemoteFile.of(str(scene.source))
    with _FETCHING.of((catalog.folder, scene.id), _WAIT_S) as held:
        if not held:
            raise Unreachable(f"{file} is being fetched at this moment. Try again in a minute.")
        with catalog.reading() as session:
            found: Scene = session.get_one(Scene, scene.id)
        return _fetch(catalog, found, file) if found.kind == "service" else found


def before_of(catalog: Catalog, scene: Scene) -> Scene | None:
    """The image before, at hand as `fetched` has it; None where there is none."""
    if scene.before_id is None:
        return None
    with catalog.reading() as session:
        before = session.get_one(Scene, scene.before_id)
    return fetched(catalog, before)


def _fetch(catalog: Catalog, scene: Scene, file: RemoteFile) -> Scene:
    with catalog.files.temporary() as (stream, path):
        size = download(file, stream, Bounds(private=catalog.private_services))
        digest = settled(stream)
        try:
            image = _inspected(path, About(**scene.options))
        except Refused as error:
            raise Refused(f"{file} sent no image: {error}") from error
        # Others can write all the time that this takes; they wait for a rename only.
        with catalog.adding() as (session, adding):
            row: Scene = session.get_one(Scene, scene.id, with_for_update=True)
            if row.kind == "service":  # else another process was quicker
                row.content = adding.move(path, digest, image.suffix)
                for name, value in image.values.items():
                    if value is not None and name not in ("digest", "name", "path"):
                        setattr(row, name, value)
                note(session, None, "fetch", f"scene {row.id}", bytes=size)
            return row


def find_scene(session: Session, wanted: str) -> Scene:
    """The scene of a number, a name or a path; Refused where there is none, or more than one."""
    if wanted.isdigit():
        scene = session.get(Scene, int(wanted))
        if scene is not None:
            return scene
    where = [Scene.name == wanted, Scene.path == str(Path(wanted).absolute())]
    found = list(session.scalars(select(Scene).where(where[0] | where[1]).order_by(Scene.id)))
    if len(found) == 1:
        return found[0]
    told = (
        f"{len(found)} images are called {wanted!r}; give the number of one"
        if found
        else f"There is no image {wanted!r}"
    )
    raise Refused(f"{told}. `aftermap catalog list scenes` shows them all.")


@dataclass(frozen=True)
class _Image:
    """An image as it was found, before it is added."""

    values: dict[str, Any]
    """Columns of its row."""
    copied: Path | None = None
    """The file whose content goes into the catalog."""
    suffix: str = ""


def _listed(sources: Sequence[str], allow_remote: bool) -> list[tuple[Path | RemoteFile, bool]]:
    """Every file and address, and whether it was named itself."""
    found: list[tuple[Path | RemoteFile, bool]] = []
    for source in sources:
        if is_remote(source):
            if not allow_remote:
                raise Refused(
                    f"{RemoteFile.of(source)} is reached over the network. Add --allow-remote to have it fetched when it is needed."
                )
            found.append((RemoteFile.of(source), True))
            continue
        path = Path(source).absolute()
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob("*")
                if p.is_file() and (is_photo(p) or p.suffix.lower() in _RASTERS)
            )
            if not inside:
                raise Refused(f"The folder {path} holds no image. Check the path that was given.")
            found += [(file, False) for file in inside]
        elif path.exists():
            found.append((path, True))
        else:
            raise Refused(f"There is no file {path}. Check the path that was given.")
    if not found:
        raise UsageError("Name an image, a folder of images or the address of an image service.")
    return found


def _inspected(source: Path | RemoteFile, about: About) -> _Image:
    if isinstance(source, RemoteFile):
        digest = hashlib.sha256(source.address.encode()).hexdigest()
        return _Image(
            {
                "kind": "service",
                "name": source.name or str(source),
                "digest": digest,
                "source": source.address,
            }
        )
    try:
        pair = make_pair(None, source, **about.options)
    except Refused as refused:
        if not is_photo(source):
            raise
        try:
            return _photo(source)
        except Refused:
            raise refused from None
    return _raster(source, pair)


def _raster(path: Path, pair: Pair) -> _Image:
    """A georeferenced raster; only its header and 64 blocks are read."""
    grid: GeoBox = pair.grid
    box = grid.geographic_extent.boundingbox
    day = acquisition_date(pair.post)
    return _Image(
        {
            "kind": "raster",
            "name": path.name,
            "digest": fingerprint_file(path)["sampled_sha256"],
            "path": str(path),
            "height": grid.shape[0],
            "width": grid.shape[1],
            "crs": grid.crs.to_wkt(),
            "transform": list(grid.affine)[:6],
            "west": box.left,
            "south": box.bottom,
            "east": box.right,
            "north": box.top,
            "gsd_m": gsd(grid),
            "taken_at": None if day is None else datetime.fromisoformat(day).replace(tzinfo=UTC),
        },
        suffix="tif",
    )


def _photo(path: Path) -> _Image:
    image = open_photo(path)
    with Image.open(path) as notes:
        place, kind = place_of(notes), str(notes.format).lower()
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    values = {
        "kind": "photo",
        "name": path.name,
        "digest": digest,
        "height": image.height,
        "width": image.width,
        "west": place.lon,
        "east": place.lon,
        "south": place.lat,
        "north": place.lat,
        "taken_at": place.taken_at,
    }
    return _Image(values, path, kind)


def _copied(catalog: Catalog, images: Sequence[_Image], stack: ExitStack) -> dict[str, Path]:
    """Copies of the photos that are not there yet, by digest; they are gone with the stack, unless moved."""
    wanted = {str(image.values["digest"]): image.copied for image in images if image.copied}
    with catalog.reading() as session:
        known = session.scalars(select(Scene.digest).where(Scene.digest.in_(wanted))).all()
    copies = {}
    for digest, source in wanted.items():
        if digest in known:
            continue
        target, path = stack.enter_context(catalog.files.temporary())
        with source.open("rb") as stream:
            shutil.copyfileobj(stream, target, 1 << 20)
        if settled(target) != digest:
            raise Refused(f"{source} changed while it was added. Add it again.")
        copies[digest] = path
    return copies


def _added(
    session: Session,
    adding: Adding,
    image: _Image,
    copies: Mapping[str, Path],
    about: About,
    user: User,
) -> tuple[Scene, bool]:
    known = session.scalars(select(Scene).where(Scene.digest == image.values["digest"])).first()
    if known is not None:
        if (
            known.kind == "raster"
            and known.content is None
            and known.path != image.values["path"]
            and not Path(str(known.path)).exists()
        ):
            note(
                session, user, "move", f"scene {known.id}", was=known.path, now=image.values["path"]
            )
            known.path = image.values["path"]
        return known, False
    before = find_scene(session, about.before).id if about.before else None
    content = None
    if image.copied is not None:
        digest = image.values["digest"]
        content = adding.move(copies[digest], digest, image.suffix)
    values = image.values | {"taken_at": image.values.get("taken_at") or about.taken_at}
    scene = Scene(
        **values, content=content, town=about.town, event=about.event, before_id=before,
        added_by=user.id, options=about.options,
    )  # fmt: skip
    session.add(scene)
    session.flush()
    note(session, user, "add", f"scene {scene.id}", name=scene.name, digest=scene.digest)
    return scene, True
