"""A study of a paper as one command: its networks trained per seed, tested, beside what was published.

Tasks run on a cluster. Killed and run again, a study goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distributed import Client

from ...scenes.atomic import write_atomically
from ...scenes.errors import AftermapError, Refused, UsageError
from ...scenes.holding import InUse, holding, watched
from ..client import connected, dashboard
from ..experiment import begin, check_folder, plain, seen_by_all
from ..futures import Failure, run_bounded
from ..progress import RunProgress
from .amatrice import Amatrice, SmallAmatrice
from .deep_disaster import DeepDisasterStudy, SmallDeepDisaster
from .kahramanmaras import Kahramanmaras, SmallKahramanmaras
from .oaxaca import Oaxaca, SmallOaxaca
from .paper import Asked, Studied, Study, Task
from .xview2 import SmallXView2, XView2

STUDIES: dict[str, type[Study]] = {
    "kahramanmaras": Kahramanmaras,
    "kahramanmaras-small": SmallKahramanmaras,
    "xview2": XView2,
    "xview2-small": SmallXView2,
    "amatrice": Amatrice,
    "amatrice-small": SmallAmatrice,
    "oaxaca": Oaxaca,
    "oaxaca-small": SmallOaxaca,
    "deep-disaster": DeepDisasterStudy,
    "deep-disaster-small": SmallDeepDisaster,
}
"""Studies by name; a small one is what two cores can do."""

FILES = ("study.json", "study.html")


def study(
    name: str,
    out: str | Path,
    seeds: int = 1,
    training: Mapping[str, Any] | None = None,
    pretraining: Mapping[str, Any] | None = None,
    cluster: Any = "auto",
    workers: int | None = None,
    quiet: bool = True,
    memory: str | None = None,
) -> Studied:
    """Run a study, or go on with it.

    `training` and `pretraining` override the settings of the paper, by the names of `TrainConfig`
    and `PretrainConfig`; the sources of chips are those of `training`, for both. Tasks run on a
    cluster. `out` gets study.json with all figures, study.html, and a folder per network and seed.
    Where a network fails the others are trained all the same.

    Raises UsageError for an unknown study and for settings that it does not know, Refused for chips
    that cannot be used and for a folder of a study that was made with other settings, AftermapError
    where a network failed.
    """
    if name not in STUDIES:
        raise UsageError(f"Unknown study {name!r}. Studies: {', '.join(STUDIES)}.")
    if seeds < 1:
        raise UsageError(f"--seeds {seeds} is no number of seeds; give 1 or more.")
    path, (facts_file, page_file) = Path(out), FILES
    asked = Asked(
        path.absolute(), seeds, seen_by_all(training or {}), seen_by_all(pretraining or {})
    )
    _check_meaning(name, asked)
    paper = STUDIES[name](asked)
    facts = plain({"study": name, "settings": paper.settings()})
    check_folder(path, facts_file, "study", facts)
    if not all(task.kept.is_file() for task in paper.tasks):
        paper.check()
    with holding(path, "study"):
        check_folder(path, facts_file, "study", facts)  # another may have come in between
        facts["seeds"] = seeds
        with connected(cluster, workers, memory) as client:
            begin(path, facts_file, facts)
            watched(path, dashboard(client))
            outcomes = _carried_out(client, paper.tasks, quiet)
        done = paper.studied(path, facts, outcomes)
        write_atomically(path / facts_file, json.dumps(facts | done.to_dict(), indent=1).encode())
        write_atomically(path / page_file, done.page().encode())
        return done


def carry_out(task: Task) -> tuple[Path, dict[str, Any]]:
    """What came of a task, and where that is kept; what is kept is not made again."""
    if not task.kept.is_file():
        try:
            write_atomically(task.kept, json.dumps(task.carry_out()).encode())
        except InUse as error:  # somebody else is at it: of the others nothing is wrong
            raise AftermapError(str(error)) from None
    return task.kept, json.loads(task.kept.read_text())


def _carried_out(client: Client, todo: Sequence[Task], quiet: bool) -> list[dict[str, Any]]:
    """What comes of all tasks on a cluster, in their order.

    AftermapError, once the others are over, where one fails.
    """
    found: dict[Path, dict[str, Any]] = {}
    failed: list[Failure[Task]] = []
    with RunProgress(len(todo), 0, quiet, noun="networks") as progress:
        for result in run_bounded(client, carry_out, todo, fatal=(Refused, UsageError)):
            if isinstance(result, Failure):
                failed.append(result)
            else:
                kept, outcome = result
                found[kept] = outcome
            progress.advance(0)
    if failed:
        task, error = failed[0].item, failed[0].error
        kind = "" if isinstance(error, AftermapError) else f"{type(error).__name__}: "
        raise AftermapError(
            f"{len(failed)} of {len(todo)} networks failed; of {task.row} with seed {task.seed} it "
            f"is said: {kind}{error} The others are kept: the same command does only what is missing."
        )
    return [found[task.kept] for task in todo]


def _check_meaning(name: str, asked: Asked) -> None:
    """UsageError for settings that the study would not heed."""
    paper = STUDIES[name]
    strange = [_option(key) for key in sorted(paper.foreign & set(asked.training))]
    if not paper.pretrains:
        strange += [_option(f"pretrain_{key}") for key in sorted(asked.pretraining)]
    if strange:
        raise UsageError(
            f"The study {name} does not heed {', '.join(strange)}. Leave out what it does not heed."
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
