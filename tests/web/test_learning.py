"""Models and jobs over the wire: what is in use, what it says, and learning that goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aftermap.cluster.catalog.imagery import add_images
from aftermap.cluster.catalog.lineage import Lineage, add_model
from aftermap.cluster.catalog.tables import Model, Scene
from aftermap.scenes.legend import LEGEND
from rasters import texture
from scored import scored
from web_made import Site, free_port


@pytest.fixture
def model(server: Site, tmp_path: Path) -> Iterator[Model]:
    tag = server.tag("ana", (564, 100, 32)).json()["id"]
    weights = scored(tmp_path, "inception-window", texture(96, 96))
    lineage = Lineage(learnt={tag: "train"}, metrics={"auc": float("nan"), "f1": 0.5})
    found, _ = add_model(server.catalog, weights, lineage)
    yield found
    with server.catalog.writing() as session:
        session.delete(session.get_one(Model, found.id))


def test_a_model_is_put_in_use_and_asked(server: Site, model: Model) -> None:
    viewer, reviewer = server.as_("viewer"), server.as_("reviewer")
    asked = {"square": [200, 200, 64]}
    nobody = viewer.post(f"/scenes/{server.pair}/says", json=asked)
    assert (nobody.status_code, nobody.json()["code"]) == (404, 404)
    assert "in use" in nobody.json()["error"]
    used = reviewer.post(f"/models/{model.id}/promote")
    assert (used.status_code, used.json()["state"]) == (200, "promoted")
    said = viewer.post(f"/scenes/{server.pair}/says", json=asked)
    assert said.status_code == 200, said.text
    assert said.json()["model"] == model.id
    assert 0 <= said.json()["score"] <= 1
    assert viewer.post("/scenes/999/says", json=asked).status_code == 404
    for square in ([-9000, 0, 64], [0, 0, 8], [0, 0, 5000]):
        outside = viewer.post(f"/scenes/{server.pair}/says", json={"square": square})
        assert (outside.status_code, outside.json()["code"]) == (400, 400)


def test_a_model_is_asked_of_an_image_that_is_fetched_first(server: Site, model: Model) -> None:
    """Nobody answers there; that is what is told, and not that there is no file."""
    source = f"http://127.0.0.1:{free_port()}/town.tif"
    (service,) = add_images(server.catalog, [source], allow_remote=True).new
    server.as_("reviewer").post(f"/models/{model.id}/promote")
    said = server.as_("viewer").post(f"/scenes/{service.id}/says", json={"square": [0, 0, 64]})
    assert said.status_code in (400, 502)
    assert "127.0.0.1" in said.json()["error"]
    with server.catalog.writing() as session:
        session.delete(session.get_one(Scene, service.id))


def test_models_tell_what_they_were_made_from(server: Site, model: Model) -> None:
    viewer = server.as_("viewer")
    (told,) = viewer.get("/models").json()
    assert (told["id"], told["tags"], told["state"]) == (model.id, 1, "candidate")
    assert told["metrics"] == {"auc": None, "f1": 0.5}
    assert viewer.get("/models/curve").json() == [
        {"model": model.id, "tags": 1, "metrics": told["metrics"]}
    ]
    trace = viewer.get(f"/models/{model.id}").json()
    assert trace["learnt"][0]["square"] == [564, 100, 32]
    assert viewer.get("/models/999").status_code == 404


def test_learning_is_a_job_of_its_own(server: Site) -> None:
    reviewer = server.as_("reviewer")
    begun = reviewer.post("/learn", json={"label_set": "damage", "how": "uncertain"})
    assert begun.status_code == 202, begun.text
    assert (begun.json()["kind"], begun.json()["by"]) == ("learn", "reviewer")
    again = reviewer.post("/learn", json={"label_set": "damage"})
    assert (again.status_code, again.json()["code"]) == (409, 409)
    stopped = reviewer.post(f"/jobs/{begun.json()['id']}/stop").json()
    assert stopped["state"] == "stopped"
    assert stopped["told"].startswith("stopped by reviewer; it was at: ")
    over = reviewer.post(f"/jobs/{begun.json()['id']}/stop")
    assert (over.status_code, over.json()["error"].partition(":")[0]) == (
        400,
        f"Job {stopped['id']} is over",
    )
    begun = reviewer.post("/learn", json={"label_set": "damage"})
    address = f"/jobs/{begun.json()['id']}"
    until = time.monotonic() + 90
    while (job := reviewer.get(address).json())["state"] == "running" and time.monotonic() < until:
        time.sleep(0.2)
    assert job["state"] == "failed", job  # there are far too few tags to learn from
    assert job["told"]
    assert reviewer.get("/jobs").json()[0] == job
    assert reviewer.get("/jobs/999").status_code == 404


@pytest.mark.parametrize(
    "said",
    [{"label_set": "nothing"}, {"how": "badly"}, {"method": "dual-hrnet"}, {"layers": "some"}],
)
def test_what_cannot_be_learnt_is_told_in_words(server: Site, said: dict[str, str]) -> None:
    answer = server.as_("reviewer").post("/learn", json=said)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]


def test_the_legend(server: Site) -> None:
    codes = server.as_("viewer").get("/legend").json()
    assert [one["code"] for one in codes] == [one.code for one in LEGEND]


def test_runs_are_told_without_paths(server: Site) -> None:
    (run,) = server.as_("viewer").get("/works").json()
    assert (run["name"], run["kind"], run["running"]) == ("run", "run", False)
    assert str(server.folder) not in str(run)
