"""The tables of the catalog. Tags and reviews are only ever added: a correction replaces a row, and keeps it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

ROLES = ("viewer", "tagger", "reviewer", "admin")
"""What a user may do; each may do what those before it may."""

SCENE_KINDS = ("raster", "photo", "service")
"""A georeferenced raster, a photo with at most a position, or an image of a service not yet fetched."""

VERDICTS = ("accepted", "corrected", "rejected")
"""What a reviewer says of a building: its class is right, another one, or there is no such building."""

MODEL_STATES = ("candidate", "promoted", "retired")

JOB_STATES = ("running", "done", "failed", "stopped")


def now() -> datetime:
    """The present moment, UTC."""
    return datetime.now(UTC)


class Moment(TypeDecorator[datetime]):
    """A moment, UTC, whatever the database thinks of time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As it is stored."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As it is used."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Names of constraints follow a rule, so that migrations can change them on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {datetime: Moment, dict[str, Any]: JSON, list[Any]: JSON}


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    told = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({told})", name=column)


class User(Table):
    """Someone who tags or reviews; never removed, since rows name them."""

    __tablename__ = "users"
    __table_args__ = (_one_of("role", ROLES),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password: Mapped[str | None] = mapped_column(String(200))
    """Argon2; None cannot log in: the command line's user, and those who made imported tags."""
    active: Mapped[bool] = mapped_column(default=True)
    made_at: Mapped[datetime] = mapped_column(default=now)


class Login(Table):
    """A session of a browser; the cookie's value is kept as its digest only."""

    __tablename__ = "logins"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    token: Mapped[str] = mapped_column(String(64))
    """What every change must bring along, against requests forged by other pages."""
    made_at: Mapped[datetime] = mapped_column(default=now)
    ends_at: Mapped[datetime]
    user: Mapped[User] = relationship(lazy="joined")


class Scene(Table):
    """An image: a raster where it lies, a photo kept beside the database, or one still at a service."""

    __tablename__ = "scenes"
    __table_args__ = (_one_of("kind", SCENE_KINDS),)

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256: of a photo's bytes, of a raster's size and 64 blocks, of a service's address."""
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(255))
    path: Mapped[str | None] = mapped_column(Text)
    """Where a raster lies that was not copied."""
    content: Mapped[str | None] = mapped_column(String(80))
    """Name among the catalog's files, see `Files`; None for a raster in its place, and until it is fetched."""
    source: Mapped[str | None] = mapped_column(Text)
    """The address that it is fetched from."""
    width: Mapped[int | None]
    height: Mapped[int | None]
    crs: Mapped[str | None] = mapped_column(Text)
    transform: Mapped[list[Any] | None]
    west: Mapped[float | None]
    south: Mapped[float | None]
    east: Mapped[float | None]
    north: Mapped[float | None]
    """Bounds in degrees; of a photo, all four are its position."""
    gsd_m: Mapped[float | None]
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """How it is read: `bands` and `scale` as `open_pair` takes them."""
    taken_at: Mapped[datetime | None]
    town: Mapped[str] = mapped_column(String(120), default="")
    event: Mapped[str] = mapped_column(String(120), default="")
    before_id: Mapped[int | None] = mapped_column(ForeignKey("scenes.id"))
    """The image of the same ground before the event."""
    added_by: Mapped[int] = mapped_column(ForeignKey("users.id"))
    added_at: Mapped[datetime] = mapped_column(default=now)


class LabelSet(Table):
    """What a tag can say, in one version; a changed set is a new version."""

    __tablename__ = "label_sets"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    version: Mapped[int]
    labels: Mapped[list[Any]]
    """{"name", "title", "key", "colour", "damaged"} of each, in order; `damaged` may be null."""
    made_at: Mapped[datetime] = mapped_column(default=now)


class Chip(Table):
    """A square of a scene; its pixels are kept once somebody has tagged it."""

    __tablename__ = "chips"
    __table_args__ = (UniqueConstraint("scene_id", "row", "col", "side"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    scene_id: Mapped[int] = mapped_column(ForeignKey("scenes.id"))
    row: Mapped[int]
    col: Mapped[int]
    side: Mapped[int]
    """px of the scene."""
    content: Mapped[str] = mapped_column(String(80), index=True)
    """Its pixels, a PNG among the catalog's files."""
    before: Mapped[str | None] = mapped_column(String(80))
    """The same of the image before, where the scene has one."""
    lon: Mapped[float | None]
    lat: Mapped[float | None]
    scene: Mapped[Scene] = relationship()


class Tag(Table):
    """What one person said of a chip, or of a polygon in a scene."""

    __tablename__ = "tags"
    __table_args__ = (
        CheckConstraint("(chip_id IS NULL) <> (polygon IS NULL)", name="place"),
        Index("ix_tags_chip_id_user_id", "chip_id", "user_id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """A UUID that whoever tags makes: sent twice, it is one tag."""
    scene_id: Mapped[int] = mapped_column(ForeignKey("scenes.id"), index=True)
    chip_id: Mapped[int | None] = mapped_column(ForeignKey("chips.id"))
    polygon: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """GeoJSON geometry: in degrees, or in pixels of a scene that has no place on the earth."""
    label_set_id: Mapped[int] = mapped_column(ForeignKey("label_sets.id"))
    label: Mapped[str | None] = mapped_column(String(80))
    """One of the label set; None takes back the tag that this one replaces."""
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    made_at: Mapped[datetime] = mapped_column(default=now, index=True)
    replaces: Mapped[str | None] = mapped_column(ForeignKey("tags.id"), unique=True)
    """Of two people who correct the same tag at once, the second is refused."""
    origin: Mapped[str] = mapped_column(String(255), default="app")
    """The app, or the file that it was imported from."""
    scene: Mapped[Scene] = relationship()
    chip: Mapped[Chip | None] = relationship()
    label_set: Mapped[LabelSet] = relationship()
    user: Mapped[User] = relationship()


class Split(Table):
    """A division of chips into parts that stays as it is: later chips are added, none moves."""

    __tablename__ = "splits"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    made_at: Mapped[datetime] = mapped_column(default=now)


class SplitChip(Table):
    """The part that a chip belongs to."""

    __tablename__ = "split_chips"

    split_id: Mapped[int] = mapped_column(ForeignKey("splits.id"), primary_key=True)
    chip_id: Mapped[int] = mapped_column(ForeignKey("chips.id"), primary_key=True)
    part: Mapped[str] = mapped_column(String(16))


class Model(Table):
    """Weights, and where they come from."""

    __tablename__ = "models"
    __table_args__ = (_one_of("state", MODEL_STATES),)

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the weights."""
    method: Mapped[str] = mapped_column(String(40))
    content: Mapped[str] = mapped_column(String(80))
    """Its safetensors file among the catalog's files; the card is `card`."""
    card: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16), default="candidate")
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))
    split_id: Mapped[int | None] = mapped_column(ForeignKey("splits.id"))
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    made_by: Mapped[int] = mapped_column(ForeignKey("users.id"))
    made_at: Mapped[datetime] = mapped_column(default=now)
    learnt: Mapped[list[ModelTag]] = relationship(cascade="all, delete-orphan")


class ModelTag(Table):
    """A tag that a model was made with, and what for: the exact chips, and what was said of them then."""

    __tablename__ = "model_tags"

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    tag_id: Mapped[str] = mapped_column(ForeignKey("tags.id"), primary_key=True)
    part: Mapped[str] = mapped_column(String(16))
    tag: Mapped[Tag] = relationship()


class Run(Table):
    """A run folder."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(String(64), unique=True)
    path: Mapped[str] = mapped_column(Text)
    method: Mapped[str] = mapped_column(String(40))
    model_digest: Mapped[str | None] = mapped_column(String(64))
    scene_id: Mapped[int | None] = mapped_column(ForeignKey("scenes.id"))
    before_id: Mapped[int | None] = mapped_column(ForeignKey("scenes.id"))
    totals: Mapped[dict[str, Any]]
    added_by: Mapped[int] = mapped_column(ForeignKey("users.id"))
    added_at: Mapped[datetime] = mapped_column(default=now)


class Review(Table):
    """What a person said of one building (or damage area) of a run."""

    __tablename__ = "reviews"
    __table_args__ = (
        _one_of("verdict", VERDICTS),
        UniqueConstraint("run_id", "building_id", "number"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    building_id: Mapped[str] = mapped_column(String(80))
    number: Mapped[int]
    """1 for the first of this building; the highest is the one that counts."""
    verdict: Mapped[str | None] = mapped_column(String(16))
    """None takes back what was said before."""
    damage_class: Mapped[int | None]
    """Code of the class that counts from now on; None for a rejected building."""
    predicted: Mapped[int]
    """Code of the class that the run gave."""
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    made_at: Mapped[datetime] = mapped_column(default=now)
    user: Mapped[User] = relationship()


class Suggestion(Table):
    """A square that is worth looking at next; all are made anew after each learning."""

    __tablename__ = "suggestions"
    __table_args__ = (UniqueConstraint("scene_id", "row", "col", "side"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    """They are shown in this order."""
    scene_id: Mapped[int] = mapped_column(ForeignKey("scenes.id"))
    row: Mapped[int]
    col: Mapped[int]
    side: Mapped[int]
    model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))
    score: Mapped[float | None]
    """What the model says of it, 0-1."""
    reason: Mapped[str] = mapped_column(String(40))
    scene: Mapped[Scene] = relationship()


class Job(Table):
    """Something that runs in the background."""

    __tablename__ = "jobs"
    __table_args__ = (_one_of("state", JOB_STATES),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(16), default="running")
    told: Mapped[str] = mapped_column(Text, default="")
    """What it is at, or why it failed."""
    done: Mapped[float] = mapped_column(default=0.0)
    """Share, 0-1."""
    host: Mapped[str | None] = mapped_column(String(255))
    """The machine that `pid` is a process of."""
    pid: Mapped[int | None]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    began_at: Mapped[datetime] = mapped_column(default=now)
    heard_at: Mapped[datetime] = mapped_column(default=now)
    """When its process last said that it lives."""
    ended_at: Mapped[datetime | None]


class Entry(Table):
    """The audit trail: who did what, and when."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    action: Mapped[str] = mapped_column(String(40), index=True)
    subject: Mapped[str] = mapped_column(String(255))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)
