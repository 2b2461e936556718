"""Training by several processes: the gradients of one, the same crops, one set of files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from aftermap.models.augment import FOLDER
from aftermap.models.batches import batches
from aftermap.models.checkpoint import load
from aftermap.models.chips.mixture import Mixture, Source
from aftermap.models.chips.open import open_chips
from aftermap.models.losses import bce, levels
from aftermap.models.ranks import MEETING, Ranks
from aftermap.models.registry import build
from aftermap.scenes.errors import Refused, UsageError
from holders import holder
from PIL import Image

GRADIENTS = """
import sys, torch
from aftermap.models.ranks import Ranks
from aftermap.models.registry import build
from aftermap.models.losses import bce, levels
torch.set_num_threads(1)
folder, kind = sys.argv[1:]
ranks, cpu = Ranks.here(), torch.device("cpu")
pre, post, codes = torch.load(folder + "/batch.pt", weights_only=True)
part = list(ranks.part(len(pre)))
torch.manual_seed(0)
network = build("fc-siam-diff", size="small", classes=1 if kind == "bce" else 5, dropout=0.0)
network.train(kind != "bce")
with ranks.joined(cpu):
    shared = ranks.sharing(network)
    logits = shared(pre[part], post[part])
    loss = bce(logits[:, 0], codes[part] > 2) if kind == "bce" else levels(logits, codes[part])
    loss.backward()
    torch.save([p.grad for p in network.parameters()], f"{folder}/{kind}-{ranks.rank}.pt")
"""

TRAIN = """
import sys, torch
from aftermap.models.recipes import TrainConfig
from aftermap.models.training import train
torch.set_num_threads(1)
chips, out, epochs, batch = sys.argv[1:]
train(TrainConfig(out=out, data=chips, size="small", epochs=int(epochs), steps=2, chip=32,
                  batch=int(batch), lr=3e-3, schedule="constant", precision="fp32", core=32,
                  dropout=0.1, seed=3))
"""


REFUSED = TRAIN.replace(
    "train(TrainConfig", "from aftermap.scenes.errors import Refused\ntry: train(TrainConfig"
).replace("seed=3))", "seed=3))\nexcept Refused as error: print(error, file=sys.stderr)")


def together(folder: Path, code: str, *arguments: str, count: int = 2) -> list[str]:
    """Run a program in several processes that meet in a file; what each wrote to standard error."""
    meeting = folder / "meeting"
    meeting.unlink(missing_ok=True)
    started = []
    for rank in range(count):
        ranks = {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                env=os.environ | ranks | {MEETING: f"file://{meeting}"},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [process.communicate(timeout=200)[1] for process in started]
    assert [process.returncode for process in started] == [0] * count, "\n".join(told)
    return told


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four crops, of which two processes take two each."""
    folder = tmp_path_factory.mktemp("batch")
    generator = torch.Generator().manual_seed(1)
    pre, post = (torch.randn(4, 3, 32, 32, generator=generator) for _ in range(2))
    codes = torch.randint(0, 5, (4, 32, 32), generator=generator, dtype=torch.uint8)
    torch.save([pre, post, codes], folder / "batch.pt")
    return folder


def alone(batch: Path, kind: str, parts: list[list[int]]) -> list[torch.Tensor]:
    """The mean of the gradients of these parts of the batch, in this process."""
    pre, post, codes = torch.load(batch / "batch.pt", weights_only=True)
    torch.manual_seed(0)
    network = build("fc-siam-diff", size="small", classes=1 if kind == "bce" else 5, dropout=0.0)
    network.train(kind != "bce")
    for part in parts:
        logits = network(pre[part], post[part])
        loss = bce(logits[:, 0], codes[part] > 2) if kind == "bce" else levels(logits, codes[part])
        (loss / len(parts)).backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one_with_the_doubled_batch(batch: Path) -> None:
    """With a loss that is a mean over pixels, and normalisation that does not look at the batch."""
    together(batch, GRADIENTS, str(batch), "bce")
    whole = alone(batch, "bce", [[0, 1, 2, 3]])
    for rank in (0, 1):
        found = torch.load(batch / f"bce-{rank}.pt", weights_only=True)
        assert len(found) == len(whole) > 10
        for one, other in zip(found, whole, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert max(float(g.abs().max()) for g in whole) > 1e-3, "there is something to compare"


@pytest.mark.slow
def test_two_processes_have_the_mean_of_their_parts_gradients(batch: Path) -> None:
    """With the loss of the five classes and batch normalisation, which see a part each."""
    together(batch, GRADIENTS, str(batch), "levels")
    mean = alone(batch, "levels", [[0, 1], [2, 3]])
    other = alone(batch, "levels", [[0, 1], [0, 1]])
    first, second = (torch.load(batch / f"levels-{r}.pt", weights_only=True) for r in (0, 1))
    for one, two, expected in zip(first, second, mean, strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-6)
    assert not all(torch.allclose(a, b, rtol=1e-2) for a, b in zip(mean, other, strict=True))


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chips")
    rng = np.random.default_rng(0)
    for i in range(6):
        pre = rng.integers(90, 110, (64, 64, 3)).astype(np.uint8)
        post, mask = pre.copy(), np.zeros((64, 64), np.uint8)
        for level, dark in ((1, 180), (2, 140), (3, 60), (4, 20)):
            row, col = rng.integers(0, 44, 2)
            square = (slice(row, row + 20), slice(col, col + 20))
            pre[square], post[square], mask[square] = 200, dark, level
        for name, array in (("pre", pre), ("post", post), ("mask", mask)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / name / f"{i}.png")
    return root


def test_processes_share_the_crops_of_one(chips: Path) -> None:
    def crops(part: range | None) -> list[torch.Tensor]:
        mixture = Mixture([Source(open_chips(chips, 5), FOLDER, 1.0)])
        chosen = mixture.order(12, 7, 1)
        draw = lambda place: mixture.draw(chosen[place], 32, (7, 1, place))  # noqa: E731
        return [b.post for b in batches(draw, 4, 3, 1, part)]

    whole = crops(None)
    parts = [crops(Ranks(2, rank).part(4)) for rank in (0, 1)]
    for step, expected in enumerate(whole):
        assert torch.equal(torch.cat([parts[0][step], parts[1][step]]), expected)


def test_a_folder_in_use_is_refused_to_all_processes(chips: Path, tmp_path: Path) -> None:
    """Those who do not hold it would else wait for hours for the first one, which has left."""
    with holder(tmp_path / "out", "training"):
        first, second = together(tmp_path, REFUSED, str(chips), str(tmp_path / "out"), "1", "4")
    assert "in use by another training" in first
    assert "The first process was refused the folder" in second


@pytest.mark.slow
def test_two_processes_train_write_once_and_go_on_after_a_kill(chips: Path, tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    told = together(tmp_path, TRAIN, str(chips), str(whole), "2", "4")
    assert told[0].count("score") == 2
    assert "score" not in told[1], "only the first process tells"
    assert sorted(path.name for path in whole.glob("[!.]*")) == [
        "fc-siam-diff.json",
        "fc-siam-diff.safetensors",
        "state.safetensors",
    ]
    load(whole / "fc-siam-diff.safetensors", method="fc-siam-diff", classes=5)
    # The first process ends in its second epoch; the other one then loses it, and ends too.
    kill = TRAIN.replace(
        "train(TrainConfig",
        "import os\ntrain(progress=lambda t: t.epoch == 2 and os._exit(9), config=TrainConfig",
    )
    with pytest.raises(AssertionError):
        together(tmp_path, kill, str(chips), str(again), "2", "4")
    assert (again / "state.safetensors").exists()
    together(tmp_path, TRAIN, str(chips), str(again), "2", "4")
    for name in ("fc-siam-diff.safetensors", "state.safetensors"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_what_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="multiple of 2 with --batch"):
        Ranks(2).part(5)
    assert list(Ranks(2, 1).part(4)) == [2, 3]
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="RANK 2"):
        Ranks.here()
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(UsageError, match="numbers"):
        Ranks.here()
    monkeypatch.setenv(MEETING, "nowhere://")
    with (
        pytest.raises(Refused, match="could not join"),
        Ranks(2, 1).joined(torch.device("cpu")),
    ):
        pass


def test_one_process_is_left_alone() -> None:
    network, cpu = torch.nn.Linear(1, 1), torch.device("cpu")
    with Ranks().joined(cpu):
        assert Ranks().sharing(network) is network
        assert Ranks().mean(0.1, cpu) == 0.1
        assert Ranks().agreed(True, cpu)
        assert not Ranks().agreed(False, cpu)
