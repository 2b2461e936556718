"""The notebooks: clean as they are stored, and run from end to end on tiny scenes."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from sklearn.metrics import f1_score

import aftermap as am

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
MAP, REGION, TRAIN = "01_first_map", "02_region_on_a_cluster", "03_train_and_compare"

TINY: dict[str, dict[str, Any]] = {
    MAP: {"size": 256, "window": 128, "cluster": "threads"},
    REGION: {
        "workers": 2,
        "rows": 1,
        "columns": 3,
        "tile": 256,
        "overlap": 96,
        "scenes_at_once": 1,
    },
    TRAIN: {
        "towns": 2,
        "side": 64,
        "validation": 1,
        "epochs": 2,
        "steps": 2,
        "crop": 64,
        "batch": 2,
        "size": 256,
        "part": 128,
        "cluster": "threads",
    },
}
"""What the tests put in place of the values of a notebook's first code cell."""

SECONDS = 240
"""Longest time of one cell."""

ABSOLUTE = re.compile(r"(?<![\w.:/-])(?:/(?:home|Users|root|tmp|mnt|data|opt|work|srv)\b|[A-Z]:\\)")


def test_there_are_three_notebooks_and_each_is_run() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(TINY)


@pytest.mark.parametrize("name", TINY)
def test_it_is_stored_without_outputs_and_for_any_python_3(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert "execution" not in cell.metadata


@pytest.mark.parametrize("name", TINY)
def test_it_holds_no_functions(name: str) -> None:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
    for cell in code_cells(read(name)):
        found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, kinds)]
        assert not found, cell.source


@pytest.mark.parametrize("name", TINY)
def test_it_names_no_absolute_path(name: str) -> None:
    notebook = read(name)
    for cell in notebook.cells:
        assert not ABSOLUTE.search(cell.source), cell.source
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.match(r"/\w|[A-Za-z]:[\\/]", node.value), node.value


@pytest.mark.parametrize("name", TINY)
def test_its_first_code_cell_holds_plain_values(name: str) -> None:
    first = code_cells(read(name))[0]
    assert first.metadata.get("tags") == ["parameters"]
    known: dict[str, Any] = {}
    for statement in ast.parse(first.source).body:
        assert isinstance(statement, ast.Assign), ast.unparse(statement)
        (target,), value = statement.targets, ast.literal_eval(statement.value)
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = value if isinstance(target, ast.Tuple) else [value]
        known |= {ast.unparse(n): v for n, v in zip(names, values, strict=True)}
    assert set(TINY[name]) <= set(known), "the tests change what the notebook does not have"
    assert not Path(known["folder"]).is_absolute()


@pytest.mark.slow
def test_a_first_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed(MAP, tmp_path, monkeypatch)
    assert pictures(notebook) == 3
    run = am.Run(tmp_path / "runs/first-map/run")
    assert run.record["state"] == "done"
    assert run.report.stat().st_size > 10_000
    with rasterio.open(run.path / "damage.tif") as damage:
        assert damage.shape == (256, 256)
        codes = damage.read(1)
    assert len(run.buildings), "the made-up town has buildings, and none was found"
    number = run.summary[run.summary.figure == "buildings, number"].iloc[0].value
    assert number == len(run.buildings)
    assert "0 chunks set aside" in text(notebook)
    # What both images show, told by the notebook, is what the map did not leave out.
    told = re.search(r"shown by both\s+([\d.]+)%", text(notebook))
    assert told
    assert float(told[1]) == pytest.approx(100 * np.mean(codes != 255), abs=0.1)


@pytest.mark.slow
def test_a_region_on_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed(REGION, tmp_path, monkeypatch)
    assert pictures(notebook) == 2
    said = text(notebook)
    assert "exit code 130" in said, "it was to be broken off before the third tile was done"
    told = re.search(r"(\d+) scenes were finished before, (\d+) are now", said)
    assert told
    assert 1 <= int(told[1]) < 3
    assert int(told[2]) == 3
    out = tmp_path / "runs/region/town-region"
    region = am.cluster.run_region(tmp_path / "runs/region/region.toml", finish_only=True)
    assert region.exit_code == 0
    # A finished tile was not worked on again; the next one may have begun when the end came.
    attempts = {name: scene["attempts"] for name, scene in region.record["scenes"].items()}
    assert attempts["tile-00"] == attempts["tile-02"] == 1
    assert attempts["tile-01"] in (1, 2)
    buildings = region.buildings
    assert len(buildings)
    assert buildings.building_id.is_unique
    # Each is counted once, though the tiles show much of the ground twice.
    assert buildings.union_all().area == pytest.approx(buildings.area.sum(), rel=0.02)
    assert pd.read_csv(out / "districts.csv").buildings.sum() == len(buildings)
    assert list(out.glob("damage-*.vrt"))
    assert region.report.exists()


@pytest.mark.slow
def test_train_and_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed(TRAIN, tmp_path, monkeypatch)
    assert pictures(notebook) == 3
    folder = tmp_path / "runs/training"
    for name in ("fc-ef", "fc-siam-diff"):
        weights = folder / name / f"{name}.safetensors"
        assert am.load_method(name, weights=weights).card.classes == 1
    rows = dict(re.findall(r"^(.+?)  +([\d. ]+)$", text(notebook), flags=re.M))
    with rasterio.open(folder / "town/truth.tif") as file:
        truth = file.read(1)
    for label in ("fc-ef", "fc-siam-diff", "fc-siam-diff, bundled", "difference", "texture"):
        run = am.Run(folder / "maps" / label.replace(", ", "-"))
        assert len(run.buildings) == len(gpd.read_file(folder / "town/footprints.gpkg"))
        with rasterio.open(run.path / "damage.tif") as file:
            found = file.read(1)
        seen = (truth != 255) & (found != 255)
        damaged = [np.isin(codes[seen], (2, 3, 4, 5)) for codes in (truth, found)]
        told = [float(figure) for figure in rows[label].split()]
        assert len(told) == 6
        assert told[3] == pytest.approx(f1_score(*damaged, zero_division=0), abs=0.0051)


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook with its outputs, run with the tiny values in a folder of its own."""
    notebook = read(name)
    first = notebook.cells.index(code_cells(notebook)[0])
    values = "\n".join(f"{key} = {value!r}" for key, value in TINY[name].items())
    notebook.cells.insert(first + 1, nbformat.v4.new_code_cell(values))
    # The kernel's history and sockets are not the business of whoever runs the tests.
    monkeypatch.setenv("IPYTHONDIR", str(folder / ".ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder / ".jupyter"))
    client = nbclient.NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute()
    for cell in code_cells(notebook):
        assert cell.execution_count is not None, f"this cell was not run:\n{cell.source}"
        assert not [out for out in cell.outputs if out.output_type == "error"]
    return notebook


def pictures(notebook: Any) -> int:
    """How many figures were drawn."""
    outputs = [out for cell in code_cells(notebook) for out in cell.outputs]
    return sum("image/png" in out.get("data", {}) for out in outputs)


def text(notebook: Any) -> str:
    """What the notebook printed and showed, as plain text."""
    outputs = [out for cell in code_cells(notebook) for out in cell.outputs]
    return "\n".join(
        out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs
    )
