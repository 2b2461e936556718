"""Deep-Disaster: how a student that saw no damage differs from its teacher (paper 000)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import Tensor, nn

from ..scenes.errors import UsageError
from ..scenes.plan import Window
from .distillation import CODE_ALPHA, OMEGA, Distillation, Form, Hint, projection
from .score_net import ScoreNet
from .skip_ganomaly import SIDE, STUDENT, TEACHER, Reconstruction, SkipGANomaly

Scored = Literal["pair", "teacher", "student"]
"""Whose errors make the score: of a student beside its teacher, or of one network alone."""


class DeepDisaster(ScoreNet):
    """A student, trained on images without damage, beside the teacher that it learnt from.

    Images are (n, 3, side, side), -1 to 1. The teacher is frozen: it has no gradients and stays in
    eval mode, whatever the mode of the whole, until `freeze(False)`.
    """

    teacher: SkipGANomaly | None
    student: SkipGANomaly | None

    def __init__(
        self,
        width: int = STUDENT,
        teacher_width: int = TEACHER,
        form: Form = "paper",
        side: int = SIDE,
        downs: int | None = None,
        alpha: float | None = None,
        hints: Sequence[Hint] = ("image", "latent"),
        omega: Sequence[float] = OMEGA,
        unit: float = 1.0,
        scored: Scored = "pair",
        batch_statistics: bool = False,
    ) -> None:
        """`width` and `downs` are the student's; see SkipGANomaly. Options are plain JSON values.

        `alpha` None is 0.7 in the form "code" and 1 in the form "paper", where a training finds it.
        `unit` is the anomaly that becomes a score of 0.5. `scored` "teacher" or "student" makes and
        scores that network alone, for the ablations of section IV.C.1.

        `batch_statistics` reproduces the published scores: BatchNorm then uses the statistics of
        the images that are scored together, not the running ones, also in eval mode, so that the
        score of an image depends on its neighbours. Raises UsageError for unusable values.
        """
        super().__init__()
        if alpha is None:
            alpha = CODE_ALPHA if form == "code" else 1.0
        if scored not in get_args(Scored):
            raise UsageError(f"scored is one of {', '.join(get_args(Scored))}; got {scored!r}.")
        if len(omega) != 3 or min(omega) < 0 or not 0 < sum(omega) < float("inf"):
            raise UsageError(f"omega is three weights of 0 or more, not all 0; got {list(omega)}.")
        if not 0 < unit < float("inf"):
            raise UsageError(f"unit must be positive and finite; got {unit}.")
        self.distillation = Distillation(form, alpha, tuple(hints))
        self.omega = tuple(map(float, omega))
        self.unit = unit
        self.scored = scored
        self.batch_statistics = batch_statistics
        self._side = side
        self._widths = {"width": width, "teacher_width": teacher_width, "downs": downs}
        self._frozen = True
        self.teacher = SkipGANomaly(teacher_width, side) if scored != "student" else None
        self.student = SkipGANomaly(width, side, downs=downs) if scored != "teacher" else None
        if "bottleneck" in hints and self.teacher is not None and self.student is not None:
            wide, narrow = self.teacher.bottleneck, self.student.bottleneck
            if wide != narrow:
                self.register_buffer("projection", projection(wide, narrow))
        self.freeze()

    @property
    def side(self) -> int:
        """Height and width of the images, px."""
        return self._side

    @property
    def options(self) -> dict[str, Any]:
        """What `build` needs to make this network again, as it is now; plain JSON values."""
        terms = self.distillation
        return self._widths | {
            "form": terms.form,
            "side": self._side,
            "alpha": terms.alpha,
            "hints": list(terms.hints),
            "omega": list(self.omega),
            "unit": self.unit,
            "scored": self.scored,
            "batch_statistics": self.batch_statistics,
        }

    @property
    def judged(self) -> SkipGANomaly:
        """The network whose own errors are scored: the student, where there is one."""
        network = self.teacher if self.student is None else self.student
        assert network is not None
        return network

    def window(self, overlap: int = 0) -> Window:
        """Squares of a raster, each of which gets a score; they overlap by so many pixels."""
        return Window.scanning(self._side, overlap)

    def freeze(self, frozen: bool = True) -> None:
        """Keep the teacher as it is, or let it learn, as where both begin from scratch."""
        self._frozen = frozen
        if self.teacher is not None:
            self.teacher.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> DeepDisaster:
        """Training mode, or eval mode, of all but a frozen teacher, which is in eval mode."""
        super().train(mode)
        if self.teacher is not None:
            learning = mode and not self._frozen
            self.teacher.train(learning)
            self._choose_statistics(self.teacher, learning)
        if self.student is not None:
            self._choose_statistics(self.student, mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """The scores of images; see `scores`."""
        return self.scores(images)

    def scores(self, image: Tensor) -> Tensor:
        """Of images, 0-1, the higher the more damage: fp32 (n,).

        Eq. 9 has no upper bound. An anomaly a becomes a / (a + unit), which keeps the order.
        """
        anomaly = self.anomaly(image).clamp(min=0)
        return anomaly / (anomaly + self.unit)

    def anomaly(self, images: Tensor) -> Tensor:
        """Eq. 9 of images as it is, 0 or more: fp32 (n,)."""
        terms = self.terms(images)
        return terms @ terms.new_tensor(self.omega)

    def terms(self, images: Tensor) -> Tensor:
        """L, R and the comparison of eq. 9, before they are weighed: fp32 (n, 3)."""
        network = self.judged
        _, own = network.discriminator(images)
        return self.distillation.score_terms(images, own, network(images), self.lesson(images))

    def lesson(self, images: Tensor) -> Reconstruction | None:
        """What the teacher makes of images, for the student to compare with; None without one."""
        if self.scored != "pair" or self.teacher is None:
            return None
        return self.comparable(self.teacher(images))

    def comparable(self, made: Reconstruction) -> Reconstruction:
        """What a teacher made, with its bottleneck as long as the student's."""
        if not hasattr(self, "projection"):
            return made
        assert isinstance(self.projection, Tensor)
        return made._replace(bottleneck=made.bottleneck.flatten(1) @ self.projection.T)

    def _choose_statistics(self, network: SkipGANomaly, learning: bool) -> None:
        if not self.batch_statistics:
            return
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                # In training mode and not tracking, a layer uses the batch and changes nothing.
                layer.training = True
                layer.track_running_stats = learning
