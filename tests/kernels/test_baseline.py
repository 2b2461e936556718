"""The baselines do what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aftermap.kernels.baseline import Baseline
from aftermap.kernels.kernel import Kernel
from aftermap.scenes.errors import Refused
from aftermap.scenes.pair import make_pair
from aftermap.scenes.plan import Window
from scipy import ndimage

import aftermap as am


def test_difference_is_the_smoothed_absolute_difference() -> None:
    rng = np.random.default_rng(0)
    pre, post = rng.integers(0, 256, (2, 1, 3, 64, 64), np.uint8)
    kernel = Baseline("difference", level=80.0, window=Window(32, 16))
    expected = ndimage.uniform_filter(np.abs(post[0].astype(float) - pre[0]).mean(axis=0), 7)[
        16:48, 16:48
    ]
    out = kernel(pre, post, np.ones((1, 64, 64), bool))
    clear = np.abs(expected - 80) > 0.01  # float32 against float64
    np.testing.assert_array_equal(out["damage"][0][clear], np.where(expected > 80, 5, 0)[clear])
    np.testing.assert_allclose(
        out["damage_probability"][0] / 250, expected / (expected + 80), atol=0.003
    )


def test_texture_sees_roughness_and_not_brightness() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((1, 3, 64, 64), 100, np.uint8)
    rough = np.clip(100 + rng.normal(0, 40, (1, 1, 64, 64)).repeat(3, 1), 0, 255).astype(np.uint8)
    kernel = Baseline("texture", level=10.0, window=Window(32, 16))
    valid = np.ones((1, 64, 64), bool)
    assert (kernel(flat, rough, valid)["damage"] == 5).all()
    assert (kernel(flat, flat + np.uint8(60), valid)["damage"] == 0).all()


def test_the_threshold_is_fitted_to_the_scene(pair_files: tuple[Path, Path]) -> None:
    pair = make_pair(*pair_files)
    fitted = Baseline("difference").fitted(pair)
    assert fitted.level is not None
    assert 5 < fitted.level < 200
    assert fitted.fitted(pair) is fitted
    with pytest.raises(Refused, match="not fitted"):
        Baseline("texture")(
            *(np.zeros((1, 3, 544, 544), np.uint8),) * 2, np.ones((1, 544, 544), bool)
        )


def test_a_lazy_prediction_without_a_threshold_is_refused_at_once(
    pair_files: tuple[Path, Path],
) -> None:
    pair = am.open_pair(*pair_files)
    with pytest.raises(Refused, match=r"threshold in the whole scene.*level=30"):
        am.predict(pair, am.load_method("difference"))
    assert "damage" in am.predict(pair, am.load_method("difference", level=30.0))


def test_a_baseline_is_a_kernel() -> None:
    assert isinstance(Baseline("difference"), Kernel)
