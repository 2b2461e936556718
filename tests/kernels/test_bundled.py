"""The weights that come with the package: small, honest, and as exact as their card says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from aftermap.kernels.loaded import has_bf16
from aftermap.kernels.methods import load_method
from aftermap.models.card import MAX_FLIP_RATE
from aftermap.models.checkpoint import bundled, read_card
from aftermap.scenes.plan import Window
from aftermap.scenes.synth import Synth, render_pair_aligned

WEIGHTS = bundled("fc-siam-diff")


def test_they_are_small_graded_and_say_that_they_never_saw_a_real_image() -> None:
    assert WEIGHTS is not None
    assert WEIGHTS.stat().st_size < 8_000_000
    card = read_card(WEIGHTS)
    assert card.classes == 5
    assert "synthetic" in card.training_data.lower()
    assert "no real imagery" in card.training_data.lower()
    assert load_method("fc-siam-diff", device="cpu").facts()["weights_sha256"] == card.sha256


@pytest.fixture(scope="module")
def towns() -> list[tuple[np.ndarray, np.ndarray]]:
    """Two towns that were never trained on."""
    return [
        render_pair_aligned(Synth(size=640, seed=seed), 0, 0, 640, 640)[:2] for seed in (31, 32)
    ]


def codes(kernel, pre: np.ndarray, post: np.ndarray) -> np.ndarray:
    """Damage codes of the middle 256 px, whatever the halo."""
    size = kernel.window.size
    start = (640 - size) // 2
    cut = np.s_[:, start : start + size, start : start + size]
    valid = (post[cut] > 0).any(axis=0) & (pre[cut] > 0).any(axis=0)
    out = kernel(pre[cut][None], post[cut][None], valid[None])["damage"][0]
    middle = (out.shape[0] - 256) // 2
    return out[middle : middle + 256, middle : middle + 256]


@pytest.mark.slow
def test_bf16_is_the_default_only_where_it_hardly_flips_a_class(towns) -> None:
    card = read_card(WEIGHTS)
    kernel = dataclasses.replace(load_method("fc-siam-diff", device="cpu"), window=Window(256, 112))
    flips = np.mean([
        (codes(dataclasses.replace(kernel, precision="fp32"), *town)
         != codes(dataclasses.replace(kernel, precision="bf16"), *town)).mean()
        for town in towns
    ])  # fmt: skip
    print(f"bf16 flips {flips:.2e} of pixels; the card says {card.flip_rate}")
    default = load_method("fc-siam-diff", device="cpu").precision
    assert default == ("bf16" if card.precision == "bf16" and has_bf16("cpu") else "fp32")
    if card.precision == "bf16":
        assert card.flip_rate is not None
        assert card.flip_rate <= MAX_FLIP_RATE
        assert flips <= 3 * MAX_FLIP_RATE  # two small towns scatter around the card's figure


@pytest.mark.slow
def test_the_cards_halo_hardly_changes_a_class(towns) -> None:
    card = read_card(WEIGHTS)
    kernel = load_method("fc-siam-diff", device="cpu", precision="fp32")
    narrow = dataclasses.replace(kernel, window=Window(256, card.halo))
    wide = dataclasses.replace(kernel, window=Window(256, 112))
    flips = np.mean([(codes(narrow, *town) != codes(wide, *town)).mean() for town in towns])
    print(
        f"a halo of {card.halo} px flips {flips:.2e} of pixels; the card says {card.halo_flip_rate}"
    )
    assert flips < 5e-3


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_threads_of_torch_change_no_bit(towns, precision: str) -> None:
    kernel = load_method("fc-siam-diff", device="cpu", precision=precision)
    pre, post = (image[None, :, :576, :576] for image in towns[0])
    kernel = dataclasses.replace(kernel, window=Window(512, 32))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(kernel(pre, post, np.ones((1, 576, 576), bool)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for name, values in results[0].items():
            np.testing.assert_array_equal(values, other[name], err_msg=name)
