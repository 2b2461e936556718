"""Weights and cards: the round trip, and everything that is refused, with what is said."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from aftermap.models import build
from aftermap.models.card import Card
from aftermap.models.checkpoint import bundled, load, read_card, save
from aftermap.scenes.errors import Refused, UsageError


def make_card(**changes: Any) -> Card:
    values: dict[str, Any] = {
        "method": "fc-siam-diff",
        "network": "fc-siam-diff",
        "options": {"size": "small", "classes": 5},
        "classes": 5,
        "bands": 3,
        "mean": (0.4, 0.4, 0.4),
        "std": (0.2, 0.2, 0.2),
        "resolution": (0.3, 0.8),
        "nominal_resolution": 0.5,
        "core": 256,
        "halo": 24,
        "stride": 8,
        "metrics": {"score": 0.5},
    }
    return Card(**values | changes)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "net.safetensors"
    save(path, build("fc-siam-diff", size="small", classes=5), make_card())
    return path


def refusal(path: Path, **asked: Any) -> str:
    with pytest.raises(Refused) as caught:
        load(path, **asked)
    assert caught.value.exit_code == 3
    return str(caught.value)


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a checkpoint and put the new digest into its card."""
    card = read_card(path)
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    path.write_bytes(safetensors.torch.save(tensors))
    reseal(path, card)


def reseal(path: Path, card: Card) -> None:
    import hashlib

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(dataclasses.replace(card, sha256=digest).to_json())


def test_round_trip(tmp_path: Path) -> None:
    network = build("fc-siam-conc", size="small")
    network.train()
    network(torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16))  # moves the BatchNorm statistics
    card = make_card(
        network="fc-siam-conc",
        options={"size": "small", "classes": 1},
        classes=1,
        precision="bf16",
        flip_rate=5e-4,
        halo_flip_rate=0.0,
        training_data="Zeitungsfotos, größer",
    )
    written = save(tmp_path / "deep" / "net", network, card)
    assert re.fullmatch("[0-9a-f]{64}", written.sha256)
    back, read = load(tmp_path / "deep" / "net.safetensors")
    assert read == written == dataclasses.replace(card, sha256=written.sha256)
    assert not back.training
    assert read.window.size == 256 + 48
    for key, tensor in network.state_dict().items():
        assert torch.equal(back.state_dict()[key], tensor)
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == [
        "net.json",
        "net.safetensors",
    ]
    assert load(tmp_path / "deep" / "net.json")[1] == read


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    network = build("fc-ef", size="small", classes=5)
    for name in ("a", "b"):
        save(tmp_path / name, network, make_card(network="fc-ef"))
    for suffix in (".safetensors", ".json"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_nothing_is_left_of_a_failed_write(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        save(saved, build("fc-siam-diff", size="small", classes=5), make_card())
    assert saved.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_missing_file(tmp_path: Path) -> None:
    text = refusal(tmp_path / "none.safetensors")
    assert text == (
        f"There is no weights file {tmp_path / 'none.safetensors'}. Check the path given to "
        f"--weights."
    )


@pytest.mark.parametrize("name", ["net.pth", "net.pt", "net.bin", "named.safetensors"])
@pytest.mark.parametrize("protocol", [2, 4, 5, "zip"])
def test_a_pickle_is_never_opened(tmp_path: Path, name: str, protocol: int | str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path(tmp_path / "exploded").touch, ()

    path = tmp_path / name
    if protocol == "zip":
        torch.save({"weights": Bomb()}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(), protocol=int(protocol)))
    text = refusal(path)
    assert f"{path} is a pickle" in text
    assert "`aftermap weights convert`" in text
    assert "--weights" in text
    assert not (tmp_path / "exploded").exists()


def test_a_header_that_begins_like_a_pickle_is_none(saved: Path) -> None:
    card = read_card(saved)
    content = saved.read_bytes()
    length = int.from_bytes(content[:8], "little")
    target = 0x10280  # its two low bytes are those of a pickle of protocol 2
    padded = content[8 : 8 + length].ljust(target)
    saved.write_bytes(target.to_bytes(8, "little") + padded + content[8 + length :])
    assert saved.read_bytes().startswith(b"\x80\x02")
    reseal(saved, card)
    load(saved)


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\xff" * 64, b"\x89PNG\r\n\x1a\n" + b"0" * 99, b"\x10" + b"\0" * 63]
)
def test_not_safetensors(saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    text = refusal(saved)
    assert f"{saved} is not a safetensors file: found" in text
    assert "--weights" in text


@pytest.mark.parametrize("keep", [20, 5_000, -1])
def test_truncated(saved: Path, keep: int) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[:keep])
    text = refusal(saved)
    assert f"{saved} is truncated: {len(content[:keep])} bytes of" in text
    if keep != 20:
        assert f"of {len(content)}." in text


def test_missing_card(saved: Path) -> None:
    saved.with_suffix(".json").unlink()
    text = refusal(saved)
    assert f"{saved} has no card: {saved.with_suffix('.json')} was expected beside it" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.pop("mean"), "lacks the fields mean"),
        (lambda v: v.update(colour=1), "unknown fields: colour"),
        (lambda v: v.update(core="big"), "field 'core' has an unfit value: 'big'"),
        (lambda v: v.update(mean=[0.4]), "3 bands, but 1 means"),
        (lambda v: v.update(version=9), "version 9 is not 1"),
        (lambda v: v.update(classes=1), "classes 1, but the network's options say 5"),
        (lambda v: v.update(precision="bf16"), "bf16 needs a measured flip rate of at most 0.001"),
        (lambda v: v.update(halo=20), "halo 20 px are not multiples of the stride 8 px"),
        (lambda v: v.update(network="resnet"), "Valid names: deep-disaster, dual-hrnet, fc-ef"),
        (lambda v: v["options"].update(size="huge"), "Valid sizes: small"),
    ],
)
def test_unsound_card(saved: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    beside = saved.with_suffix(".json")
    values = json.loads(beside.read_text())
    change(values)
    beside.write_text(json.dumps(values))
    text = refusal(saved)
    assert said in text
    assert str(beside) in text


@pytest.mark.parametrize("text", ["", "[]", "{", "\0"])
def test_card_that_is_no_card(saved: Path, text: str) -> None:
    saved.with_suffix(".json").write_text(text)
    assert "is not a sound card: The card is" in refusal(saved)


def test_digest_mismatch(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    text = refusal(saved)
    assert f"{saved} has SHA-256" in text
    assert "was altered or belongs to another card" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(saved: Path, value: float) -> None:
    rewrite(saved, lambda tensors: tensors["encoder.0.0.weight"].view(-1)[:2].fill_(value))
    text = refusal(saved)
    assert f"{saved} holds NaN or infinite weights: encoder.0.0.weight (2 of 432 values)" in text
    network = build("fc-siam-diff", size="small", classes=5)
    with torch.no_grad():
        next(network.parameters()).fill_(value)
    with pytest.raises(UsageError, match="was not written"):
        save(saved, network, make_card())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": "medium", "classes": 5}, ["is missing", "more"]),
        ({"size": "small", "classes": 1}, ["decoder.0.0.weight is (5, 32, 3, 3), not (1, 32,"]),
        ({"size": "small", "classes": 5, "in_channels": 4}, ["is (16, 3, 3, 3), not (16, 4,"]),
    ],
)
def test_weights_of_another_network(saved: Path, options: dict[str, Any], said: list[str]) -> None:
    bands = options.get("in_channels", 3)
    card = make_card(
        options=options,
        classes=options["classes"],
        bands=bands,
        mean=(0.4,) * bands,
        std=(0.2,) * bands,
        core=256,
        halo=32,
        stride=16 if options["size"] == "medium" else 8,
    )
    reseal(saved, card)
    text = refusal(saved)
    assert f"{saved} does not fit the network fc-siam-diff" in text
    assert all(part in text for part in said)
    assert text.count(";") <= 3  # three differences at most, then a count


def test_weights_of_another_method_or_use(saved: Path) -> None:
    assert "Weights for method fc-ef were asked for" in refusal(saved, method="fc-ef")
    assert "change --classes" in refusal(saved, classes=1)
    assert "says bands 3" in refusal(saved, bands=4)
    load(saved, method="fc-siam-diff", classes=5, bands=3)


def test_cards_contradicting_themselves_cannot_be_made() -> None:
    for changes, said in (
        ({"resolution": (0.3, 0.4)}, "does not hold the nominal 0.5"),
        ({"std": (0.2, 0.0, 0.2)}, "std and scale must be > 0"),
        ({"halo": 264, "core": 256}, "are no window"),
        ({"metrics": {"score": float("nan")}}, "not all finite"),
        ({"threshold": 1.0}, "threshold 1.0"),
        ({"flip_rate": -1.0}, "flip rates lie in 0-1"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            make_card(**changes)


def test_methods_without_bundled_weights() -> None:
    assert bundled("no-such-method") is None
