"""The demo maps a town it was never trained on, and is scored against its truth."""

from __future__ import annotations

from pathlib import Path

import pytest
from aftermap.cluster.demo import SEED, SIZE, draw, map_scene, score
from aftermap.scenes.synth import Synth, write


@pytest.mark.slow
def test_the_bundled_weights_beat_both_baselines_on_the_demo_scene(tmp_path: Path) -> None:
    scene = write(tmp_path / "scene", Synth(size=SIZE, seed=SEED))
    runs = map_scene(scene, tmp_path)
    scores = {method: score(method, run, scene) for method, run in runs.items()}
    assert draw(scene, runs["fc-siam-diff"], tmp_path / "picture.jpg").stat().st_size > 50_000
    print("\n".join(line.line() for line in scores.values()))
    ours = scores.pop("fc-siam-diff")
    assert ours.buildings.f1 > 0.85
    assert ours.pixels.f1 > 0.85
    for baseline in scores.values():
        assert baseline.buildings.f1 < 0.5
        assert baseline.pixels.f1 < 0.5
