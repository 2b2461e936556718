"""Learning from the tags of a catalog: a model, how right it is, and what to look at next."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...models.card import Card
from ...models.checkpoint import SUFFIX, save
from ...models.inception_window import InceptionWindow
from ...scenes.errors import Refused
from ..catalog.catalog import Catalog
from ..catalog.lineage import Lineage, add_model, hold_models, promote, promoted
from ..catalog.tables import Model, User
from .begin import begun, is_tuned, network_of
from .candidates import candidates_of
from .config import LearnConfig
from .features import KeptFeatures, pictures_of
from .figures import Figures
from .fitting import Learning, fitted, scores_of
from .jobs import Tell
from .learnt import Learnt
from .lesson import Lesson, damaged_of
from .parts import TEST, TRAIN, block_of, keep_parts
from .suggestions import Suggested, keep_suggestions, suggested
from .tuning import Trial, tuned

_PHOTOS = (0.01, 2.0)
"""Pixel sizes, m, of rasters that weights are allowed on which have seen photos only."""


def learn(
    catalog: Catalog,
    config: LearnConfig,
    by: User | None = None,
    tell: Tell = lambda done, words: None,
    dry_run: bool = False,
) -> Learnt:
    """Learn a model from the tags that hold, keep it with all that it was made from, and suggest squares.

    Features are those of the kept chips, never of the scenes, and stay in `cache/features` of the
    catalog's folder. The threshold is chosen on folds of the part that is learnt from; figures are those
    of the other part, and by them, too, a model comes into use where `config.promote` is "if-better".
    The whole network is learnt where `config.layers` says so, enough is tagged, and it is better for it.
    The same tags, in the same parts, give the same weights on the same machine.
    `dry_run` reads and writes nothing but says what would be learnt from.

    Raises Refused for an unknown label set, and where a part has too few squares of a kind: then
    squares are suggested all the same, which a network that has learnt nothing finds diverse.
    """
    with catalog.reading() as session:
        lesson = Lesson.of(session, config)
    network, parent = begun(catalog, config, config.side or lesson.square, lesson.in_use)
    work = _Work(catalog, config, lesson, network, parent, tell, KeptFeatures(catalog))
    lacking = lesson.lacking()
    if dry_run:
        if lacking:
            raise Refused(lacking)
        return Learnt(tags=lesson.tags, begins=work.begins)
    if lacking:
        found, _ = work.suggestions(None)
        keep_suggestions(catalog, found, None)
        raise Refused(f"{lacking} {len(found)} squares to tag next are suggested.")
    threshold, trial = work.fit()
    figures, in_use = work.examined(threshold)
    model, new = work.keep(threshold, trial, figures, in_use, by)
    used, why = work.decide(model, figures, in_use, by)
    found, left_out = work.suggestions(threshold)
    keep_suggestions(catalog, found, model.id)
    work.features.tidy()
    return Learnt(
        tags=lesson.tags,
        begins=work.begins,
        model=model.id,
        new=new,
        digest=model.digest,
        trial=trial,
        figures=figures,
        in_use=in_use,
        promoted=used,
        why=why,
        suggestions=found,
        left_out=left_out,
    )


@dataclass(frozen=True, eq=False)
class _Work:
    """The steps of a learning."""

    catalog: Catalog
    config: LearnConfig
    lesson: Lesson
    network: InceptionWindow
    parent: Model | None
    """The model that its backbone is from."""
    tell: Tell
    features: KeptFeatures

    @property
    def begins(self) -> str:
        """See `Learnt.begins`."""
        if self.parent is not None:
            source = f"of model {self.parent.id}"
        elif self.config.encoder is not None:
            source = f"with the weights {Path(self.config.encoder).name}"
        else:
            source = "with random weights, which tell little: --encoder gives better ones"
        return f"{self.network.backbone} {source}; squares of {self.network.side} px"

    def fit(self) -> tuple[float, Trial | None]:
        """Learn the last layer, or all; the threshold, and what tuning gave where it was tried."""
        tune = self.config.layers == "all"
        learning = self._learning((0.0, 0.05 if tune else 0.4))
        trial = None
        if tune:
            trial, threshold = self._tuned(learning)
            if trial.better:
                return threshold, trial
        self.tell(0.4, "learning")
        layer, threshold = fitted(self.config.head, learning)
        self.network.set_head(*layer.tensors())
        return threshold, trial

    def examined(self, threshold: float) -> tuple[Figures, tuple[int, Figures] | None]:
        """Figures of the network, and of the model in use, on the part that is tested on."""
        chips = self.lesson.part(TEST)
        progress = self._progress((0.4, 0.5), "looking at the test chips")
        features = self.features.of(self.network, chips, progress)
        damaged = damaged_of(chips)
        found = Figures.of(scores_of(self.network, features), damaged, threshold)
        other = self.lesson.in_use
        if other is None:
            return found, None
        network = network_of(self.catalog, other)
        progress = self._progress((0.5, 0.54), "examining the model in use")
        scores = scores_of(network, self.features.of(network, chips, progress))
        return found, (other.id, Figures.of(scores, damaged, float(other.card["threshold"])))

    def keep(
        self,
        threshold: float,
        trial: Trial | None,
        figures: Figures,
        in_use: tuple[int, Figures] | None,
        by: User | None,
    ) -> tuple[Model, bool]:
        """Put the network into the catalog, with the parts that its chips are in from now on."""
        with self.catalog.writing() as session:
            split = keep_parts(session, self.lesson.parts)
        tags = self.lesson.tags
        metrics = {
            **tags.to_dict(),
            "test": figures.to_dict(),
            "in_use": None if in_use is None else {"model": in_use[0], **in_use[1].to_dict()},
            "layers": "all" if _is_better(trial) else "last",
            "tuning": None if trial is None else trial.to_dict(),
            "head": self.config.head,
            "backbone": self.network.backbone,
            "side": self.network.side,
        }
        parent = None if self.parent is None else self.parent.id
        lineage = Lineage(parent=parent, split=split, learnt=self.lesson.learnt, metrics=metrics)
        with tempfile.TemporaryDirectory(dir=self._cache) as folder:
            weights = Path(folder) / f"{self.config.method}{SUFFIX}"
            save(weights, self.network, self._card(threshold, trial, figures))
            return add_model(self.catalog, weights, lineage, by)

    def decide(
        self,
        model: Model,
        figures: Figures,
        in_use: tuple[int, Figures] | None,
        by: User | None,
    ) -> tuple[bool, str]:
        """Whether the model comes into use, and why; then it is.

        It stays a candidate where it was compared with a model that is no longer the one in use.
        """
        compared = None if self.lesson.in_use is None else self.lesson.in_use.id
        with self.catalog.writing() as session:
            hold_models(session, self.config.method)
            found = promoted(session, self.config.method)
            current = None if found is None else found.id
            if current == model.id:
                return True, "it is in use already"
            if self.config.promote == "if-better" and current != compared:
                return False, _overtaken(current)
            yes, why = _better(self.config.promote, figures, in_use)
            if yes:
                promote(session, session.get_one(Model, model.id), by)
        return yes, why

    def suggestions(self, threshold: float | None) -> tuple[list[Suggested], tuple[str, ...]]:
        """Squares to look at next, and scenes that have none."""
        lesson, learning = self.lesson, self._learning((0.54, 0.55))
        self.tell(0.55, "looking for squares that nobody tagged")
        candidates = candidates_of(
            self.catalog,
            self.config,
            (lesson.square, self.network.side),
            lesson.votes.tagged,
            lesson.pixels,
        )
        found = suggested(
            self.catalog,
            self.config,
            self.features.by(self.network),
            candidates,
            learning,
            threshold,
            self._progress((0.55, 1.0), "looking at squares that nobody tagged"),
        )
        return found, candidates.left_out

    def _learning(self, share: tuple[float, float]) -> Learning:
        chips = self.lesson.part(TRAIN)
        progress = self._progress(share, "looking at the tagged chips")
        features = self.features.of(self.network, chips, progress)
        blocks = [block_of(voted.chip, voted.scene) for voted in chips]
        with self.catalog.reading() as session:
            return Learning(features, damaged_of(chips), blocks, is_tuned(session, self.parent))

    def _tuned(self, learning: Learning) -> tuple[Trial, float]:
        chips = self.lesson.part(TRAIN)
        again = self._progress((0.38, 0.4), "looking at the tagged chips again")
        return tuned(
            self.network,
            pictures_of(self.catalog, self.network, chips),
            learning,
            self.config.head,
            lambda network: self.features.of(network, chips, again),
            self._progress((0.05, 0.38), "tuning the whole network, batch"),
        )

    def _progress(self, share: tuple[float, float], words: str) -> Callable[[int, int], None]:
        first, last = share
        return lambda done, of: self.tell(
            first + (last - first) * done / max(of, 1), f"{words}: {done} of {of}"
        )

    @property
    def _cache(self) -> Path:
        folder = self.catalog.folder / "cache"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _card(self, threshold: float, trial: Trial | None, figures: Figures) -> Card:
        window, tags = self.network.window(), self.lesson.tags
        nominal = self.lesson.resampled(self.network.side)
        chips, damaged = tags.counts[TRAIN]
        return Card(
            method=self.config.method,
            network=self.config.method,
            options={"encoder": self.network.backbone, "side": self.network.side},
            classes=1,
            bands=3,
            mean=self.network.mean,
            std=self.network.std,
            resolution=_PHOTOS if nominal is None else (nominal / 2, nominal * 2),
            nominal_resolution=0.1 if nominal is None else nominal,
            core=window.core,
            halo=window.halo,
            scan=window.scan,
            stride=1,
            threshold=float(np.clip(threshold, 1e-6, 1 - 1e-6)),
            training_data=f"Learnt by aftermap from {chips} tagged squares of a catalog, {damaged} with "
            f"damage; head {self.config.head}{', then all of it tuned' if _is_better(trial) else ''}.",
            metrics={f"test_{name}": float(value) for name, value in figures.to_dict().items()},
        )


def _is_better(trial: Trial | None) -> bool:
    return trial is not None and trial.better


def _overtaken(current: int | None) -> str:
    now = "none is" if current is None else f"model {current} is, which it was not compared with"
    return f"what was in use was changed while it was learnt; now {now}. Promote it, or learn again"


def _better(rule: str, figures: Figures, in_use: tuple[int, Figures] | None) -> tuple[bool, str]:
    """Whether a model should come into use, and why: by average precision, as damage is rare."""
    if rule != "if-better":
        return rule == "always", f"as --promote {rule} says"
    if in_use is None:
        good = figures.auc > 0.5
        words = "and none was in use" if good else "no better than chance"
        return good, f"its AUC is {figures.auc:.3f}, {words}"
    number, other = in_use
    mine, better = figures.average_precision, figures.average_precision > other.average_precision
    verb = "above" if better else "not above"
    words = (
        f"its average precision is {mine:.3f}, {verb} the {other.average_precision:.3f} of model"
    )
    return better, f"{words} {number}"
