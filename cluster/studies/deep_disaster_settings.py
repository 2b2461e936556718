"""What decides the figures of the study of paper 000: photos, teachers, students, their ablations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from ...models.adversarial_recipe import AdversarialConfig
from ...models.hash_split import hash_split
from ...models.photos.open import open_photos
from ...models.photos.photoset import PhotoSet
from ...models.photos.synthetic import PhotoRecipe, synthetic_photos
from ...models.presets import SYNTHETIC_TOWNS
from ...models.recipes import SYNTHETIC
from ...scenes.errors import UsageError
from .deep_disaster_table import VARIANTS
from .photo_settings import PhotoSettings

PARTS = (("train", 0.6), ("validation", 0.15), ("test", 0.25))
"""Parts of the photos of an event, and their shares where photos are synthetic."""

GENERIC = PhotoRecipe((("generic", 910_015), ("other", 910_006)), 60, 20, bare=True)
"""What a teacher learns from where no other photos are given: towns that are no event."""


@dataclass(frozen=True, kw_only=True)
class DeepDisasterConfig(PhotoSettings):
    """What decides the figures. Raises UsageError for unusable values.

    Behind the folder of photos of events, `data` may name one of any photos to teach from.
    """

    FOLDERS: ClassVar[int] = 2

    synthetic: PhotoRecipe = field(
        default_factory=lambda: PhotoRecipe(SYNTHETIC_TOWNS, 160, 60, True)
    )
    side: int
    """Of the photos as teachers and students see them, px; the command line calls it --chip."""
    width: int
    """Of the students."""
    teacher_width: int
    epochs: int
    batch: int
    lr: float
    backbones: tuple[str, ...]
    """Models of timm for the supervised rows."""
    tuning_epochs: int
    """How often a backbone that is trained whole sees the photos of an event, unless that is too often for
    many; see `fine_tune`."""
    backbone_side: int
    """Of the photos as backbones see them, px."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "backbones", tuple(self.backbones))
        object.__setattr__(self, "synthetic", replace(self.synthetic, parts=PARTS))
        if min(self.synthetic.intact, self.synthetic.damaged) < 4:
            raise UsageError(
                f"Each part needs synthetic photos of both kinds; got {self.synthetic.intact} without "
                f"damage and {self.synthetic.damaged} with. Ask for 4 or more."
            )
        if self.encoder is not None and len(self.backbones) != 1:
            raise UsageError("--encoder is the weights of one model. Name it with --backbone.")

    @property
    def taught(self) -> str:
        """The folder that teachers learn from, or "synthetic"."""
        return self.data[1] if len(self.data) == 2 else SYNTHETIC

    def usable(self, photos: PhotoSet) -> PhotoSet:
        """Those with a label, an event and a part; where none has a part, by the names of files."""
        known = super().usable(photos)
        if not any(photo.split for photo in known.photos):
            return hash_split(known, validation=10, test=20)
        return known.replaced([photo for photo in known.photos if photo.split])

    def lessons(self, folder: Path) -> PhotoSet:
        """The photos that teachers learn from."""
        named = self.taught
        root = synthetic_photos(folder, GENERIC) if named == SYNTHETIC else named
        return open_photos(root, self.side)

    def training(self, out: Path, seed: int, **changes: Any) -> AdversarialConfig:
        """Of a teacher or a student."""
        common = {name: getattr(self, name) for name in ("side", "epochs", "batch", "lr")}
        return AdversarialConfig(**{**common, "out": str(out), "seed": seed, **changes})

    def student(self, variant: str, out: Path, seed: int, teacher: Path) -> AdversarialConfig:
        """Of a student, or of what stands in its place."""
        changes: dict[str, Any] = {"width": self.width, "teacher_width": self.teacher_width}
        changes |= VARIANTS[variant].settings
        if changes.pop("equal", False):
            changes["width"] = self.teacher_width
        if changes.get("structure", "distilled") == "distilled":
            changes["teacher"] = str(teacher)
        return self.training(out, seed, **changes)
