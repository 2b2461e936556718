"""The table of a run is that of the run as it is now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from aftermap.cluster.catalog.buildings import Wanted, open_buildings
from aftermap.cluster.catalog.catalog import Catalog
from aftermap.cluster.catalog.runs import add_run
from runs import areas, finished_run


def test_areas_of_a_run_that_went_on_are_new(catalog: Catalog, tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run", found=areas(2), state="quarantined")
    run, _ = add_run(catalog, folder)
    assert len(open_buildings(catalog, run, None).find(Wanted(), 10)) == 2
    shutil.rmtree(folder)
    finished_run(folder, found=areas(3))
    assert len(open_buildings(catalog, run, None).find(Wanted(), 10)) == 3
    assert len(list((catalog.folder / "cache").glob("areas-*"))) == 1
    totals = json.loads((folder / "run.json").read_text())["totals"]
    again, new = add_run(catalog, folder)
    assert (again.id, again.totals, new) == (run.id, totals, False)
