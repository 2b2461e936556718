"""Contrastive pre-training: what it draws, that it separates damage, and that it goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aftermap.models.change import ChangeNet
from aftermap.models.chips.chip import Chip
from aftermap.models.encoder import Embedder, load_encoder
from aftermap.models.loop import Tick, silence
from aftermap.models.pretraining import Comparison, balanced, pretrain, separation, shows
from aftermap.models.recipes import PretrainConfig, SyntheticRecipe
from aftermap.models.registry import build
from aftermap.scenes.errors import Refused, UsageError
from PIL import Image
from sklearn.metrics import roc_auc_score

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every second place: bright squares turned dark; in the others they stay."""
    root = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(0)
    for i in range(120):
        pre = rng.integers(60, 140, (64, 64, 3)).astype(np.uint8)
        row, col = rng.integers(0, 30, 2)
        square = np.s_[row : row + 34, col : col + 34]
        pre[square] = 220
        post, mask = (pre * rng.uniform(0.8, 1.1)).clip(1, 255).astype(np.uint8), np.zeros((64, 64), np.uint8)  # fmt: skip
        if i % 2:
            post[square] = rng.integers(1, 60, (34, 34, 3))
            mask[square] = 1
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / name / f"{i:02d}.png")
    return root


def config(chips: Path, out: Path, **changes: Any) -> PretrainConfig:
    basic = PretrainConfig(
        out=str(out),
        data=(str(chips),),
        size="small",
        epochs=3,
        steps=8,
        chip=64,
        batch=8,
        lr=3e-3,
        precision="fp32",
        augment="none",
    )
    return replace(basic, **changes)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_embedder_has_the_published_size() -> None:
    """specs of paper 001: head 32,896 and Siamese branch 1,989,136 parameters, size large."""
    network = build("fc-siam-diff", size="large")
    assert isinstance(network, ChangeNet)
    embedder = Embedder(network)
    assert parameters(embedder.head) == 32_896
    assert parameters(embedder.head) + parameters(network.encoder) == 1_989_136
    found = embedder(*torch.zeros(2, 3, 3, 64, 64))
    assert found.shape == (3, 2, 128)
    learnt = sum(p.numel() for p in embedder.parameters() if p.requires_grad)
    assert learnt == 1_989_136


def test_early_fusion_compares_pairs_two_by_two() -> None:
    network = build("fc-ef", size="small")
    assert isinstance(network, ChangeNet)
    embedder = Embedder(network, dimensions=8).eval()
    pre, post = torch.randn(2, 4, 3, 32, 32)
    found = embedder(pre, post)
    assert found.shape == (2, 2, 8)
    alone = embedder(pre[[2, 0]], post[[2, 0]])
    assert torch.allclose(alone[0, 0], found[1, 0], atol=1e-5)
    assert torch.allclose(alone[0, 1], found[0, 0], atol=1e-5)
    damaged = torch.tensor([True, True, False, True])
    assert embedder.different(damaged).tolist() == [False, True]
    with pytest.raises(UsageError, match="two by two; got 3"):
        embedder(pre[:3], post[:3])


def test_both_labels_are_drawn_equally() -> None:
    damaged = {True: [0, 1, 2], False: list(range(3, 40))}
    drawn = balanced(damaged, 200, False, seed=1, epoch=0)
    assert Counter(flag for _, flag in drawn) == {True: 100, False: 100}
    assert all((index < 3) == flag for index, flag in drawn)
    assert {index for index, _ in drawn} == set(range(40))
    assert balanced(damaged, 200, False, 1, 0) == drawn
    assert balanced(damaged, 200, False, 1, 1) != drawn
    flags = [flag for _, flag in balanced(damaged, 200, True, seed=1, epoch=0)]
    kinds = Counter(zip(flags[::2], flags[1::2], strict=True))
    assert set(kinds.values()) == {50}
    assert len(kinds) == 4


def test_crops_show_what_they_are_drawn_for() -> None:
    image = np.ones((3, 10, 10), np.uint8)
    codes = np.zeros((10, 10), np.uint8)
    none = Chip(image, image, codes)
    little, much = codes.copy(), codes.copy()
    little[0, 0], much[:2] = 4, 5
    unknown = np.full((10, 10), 255, np.uint8)
    assert shows(none, False, 0.05)
    assert not shows(none, True, 0.05)
    # A single damaged pixel is neither: it is drawn again.
    assert not shows(Chip(image, image, little), True, 0.05)
    assert not shows(Chip(image, image, little), False, 0.05)
    assert shows(Chip(image, image, much), True, 0.05)
    assert shows(Chip(image, image, unknown, damaged=True), True, 0.05)
    assert not shows(Chip(image, image, unknown, damaged=True), False, 0.05)


def test_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(0)
    distance, different = np.round(rng.random(200), 1), rng.random(200) < 0.3
    assert separation(distance, different) == pytest.approx(roc_auc_score(different, distance))


@pytest.mark.parametrize("method", ["fc-siam-diff", "fc-siam-conc", "fc-ef"])
def test_it_learns_to_tell_damage(chips: Path, tmp_path: Path, method: str) -> None:
    losses: list[float] = []

    def tell(tick: Tick) -> None:
        if tick.score is not None:
            losses.append(-tick.score)

    file = pretrain(config(chips, tmp_path, method=method, epochs=6), tell)
    network = build(method, size="small")
    assert isinstance(network, ChangeNet)
    facts = load_encoder(file, network, method)
    assert facts.metrics["held_out_loss"] == pytest.approx(min(losses))
    assert facts.metrics["auc"] > 0.9
    assert 0 <= facts.metrics["auc_untrained"] <= 1
    assert facts.training_data == chips.name


def test_batches_are_balanced_and_reproducible(chips: Path, tmp_path: Path) -> None:
    from aftermap.models.ranks import Ranks

    task = Comparison(config(chips, tmp_path), torch.device("cpu"))
    first, again = (list(task.batches(3, 1, Ranks())) for _ in range(2))
    for batch, same in zip(first, again, strict=True):
        assert batch.pre.equal(same.pre)
        assert batch.names == same.names
    assert sum(int(batch.damaged.sum()) for batch in first) == 12
    assert len(first[0]) == 8
    shared = [list(task.batches(3, 1, Ranks(2, rank))) for rank in (0, 1)]
    for step, batch in enumerate(first):
        assert torch.equal(torch.cat([part[step].post for part in shared]), batch.post)


def test_a_resumed_pretraining_ends_with_the_same_encoder(chips: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(tick: Tick) -> None:
        if tick.epoch == 2 and tick.step == 3:
            raise Killed

    asked = {"augment": "paper", "accumulate": 2, "batch": 4}
    whole = pretrain(config(chips, tmp_path / "whole", **asked), silence)
    with pytest.raises(Killed):
        pretrain(config(chips, tmp_path / "parts", **asked), kill)
    parts = pretrain(config(chips, tmp_path / "parts", **asked), silence)
    assert parts.read_bytes() == whole.read_bytes()


def test_synthetic_scenes_serve_as_both(tmp_path: Path) -> None:
    recipe = SyntheticRecipe(scenes=3, validation=2, side=128)
    asked = PretrainConfig(
        out=str(tmp_path), size="small", synthetic=recipe, epochs=1, steps=1, chip=32, batch=4
    )
    assert pretrain(asked, silence).is_file()
    assert len(list((tmp_path / "scenes").iterdir())) == 5


def test_what_cannot_be_compared(chips: Path, tmp_path: Path) -> None:
    for i in range(10):
        for name in ("pre", "post", "mask"):
            (tmp_path / "same" / name).mkdir(parents=True, exist_ok=True)
            source = chips / name / f"{2 * i + 1:02d}.png"
            (tmp_path / "same" / name / source.name).write_bytes(source.read_bytes())
    with pytest.raises(Refused, match=r"places without.*show damage and 0 do not"):
        pretrain(config(tmp_path / "same", tmp_path / "out"), silence)
    with pytest.raises(UsageError, match="multiples of 8 px"):
        pretrain(config(chips, tmp_path / "out", chip=60), silence)
    with pytest.raises(UsageError, match="margin must be positive"):
        config(chips, tmp_path, margin=0)
    with pytest.raises(UsageError, match="dual-hrnet is not pre-trained by this command"):
        pretrain(config(chips, tmp_path / "out", method="dual-hrnet", size="medium"), silence)
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=r"cannot be written to .*-o"):
        pretrain(config(chips, tmp_path / "file" / "out"), silence)
