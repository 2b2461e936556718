"""Users, the audit trail and versions of label sets over the wire, as the page of admins asks for them."""

from __future__ import annotations

import uuid
from contextlib import closing

import httpx
import pytest
from aftermap.cluster.catalog.catalog import local_user
from web_made import PASSWORD, Site, client


def _user(server: Site, name: str, role: str, password: str | None = None) -> httpx.Response:
    said = {"name": name, "role": role} | ({} if password is None else {"password": password})
    return server.as_("admin").post("/users", json=said)


def _people(server: Site) -> dict[str, tuple[str, bool]]:
    told = server.as_("admin").get("/users").json()
    return {person["name"]: (person["role"], person["may_log_in"]) for person in told}


def _labels(server: Site, name: str, *labels: str) -> int:
    said = {"name": name, "labels": [{"name": one} for one in labels]}
    return int(server.as_("admin").post("/label-sets", json=said).json()["id"])


def _relabel(server: Site, who: str, tag: str, label_set: int, label: str) -> httpx.Response:
    said = {"id": str(uuid.uuid4()), "label_set": label_set, "label": label, "replaces": tag}
    return server.as_(who).post("/tags", json=said)


def test_a_role_is_changed_and_the_password_stays(server: Site) -> None:
    assert _user(server, "gil", "tagger", PASSWORD).status_code == 201
    with closing(client(server.address, "gil")) as before:
        assert _user(server, "gil", "reviewer").json()["role"] == "reviewer"
        assert before.get("/me").status_code == 401, "sessions end"
    with closing(client(server.address, "gil")) as after:
        assert after.get("/me").json()["user"]["role"] == "reviewer"
    newest = server.as_("admin").get("/audit", params={"limit": 20}).json()
    details = [
        one["details"] for one in newest if (one["action"], one["subject"]) == ("user", "gil")
    ]
    assert details == [
        {"role": "reviewer", "new_password": False},
        {"role": "tagger", "new_password": True},
    ]


def test_a_password_is_changed(server: Site) -> None:
    assert _user(server, "hanna", "viewer", PASSWORD).status_code == 201
    assert _user(server, "hanna", "viewer", "quite another one").status_code == 201
    client(server.address, "hanna", "quite another one").close()
    said = {"name": "hanna", "password": PASSWORD}
    assert httpx.post(f"{server.address}/api/login", json=said).status_code == 401


@pytest.mark.parametrize("who", ["stranger", "gone", "local"])
def test_who_cannot_log_in_needs_a_password(server: Site, who: str) -> None:
    if who == "gone":
        assert _user(server, who, "tagger", PASSWORD).status_code == 201
        assert server.as_("admin").post(f"/users/{who}/deactivate").status_code == 200
    if who == "local":
        with server.catalog.writing() as session:
            who = local_user(session).name
    before = _people(server)
    answer = _user(server, who, "reviewer")
    assert (answer.status_code, answer.json()["error"]) == (
        400, f"{who} cannot log in. Give a password.",
    )  # fmt: skip
    assert _people(server) == before


def test_who_was_deactivated_is_let_in_again_with_a_new_password(server: Site) -> None:
    assert _user(server, "ida", "tagger", PASSWORD).status_code == 201
    server.as_("admin").post("/users/ida/deactivate")
    assert _people(server)["ida"] == ("tagger", False)
    assert _user(server, "ida", "viewer", PASSWORD).status_code == 201
    assert _people(server)["ida"] == ("viewer", True)


def test_the_audit_trail_is_read_page_by_page(server: Site) -> None:
    admin = server.as_("admin")
    for role in ("viewer", "tagger", "reviewer", "tagger", "viewer"):
        assert _user(server, "jo", role, PASSWORD).status_code == 201
    whole = admin.get("/audit", params={"limit": 11}).json()
    read: list[dict[str, object]] = []
    while len(read) < len(whole):
        before = {"before": read[-1]["id"]} if read else {}
        page = admin.get("/audit", params={"limit": 3} | before).json()
        assert page
        read += page
    assert read[: len(whole)] == whole
    assert admin.get("/audit", params={"before": 1}).json() == []
    for wrong in ("0", "-1", "x", str(2**40)):
        assert admin.get("/audit", params={"before": wrong}).status_code == 400


def test_every_version_of_a_label_set_is_told(server: Site) -> None:
    first = _labels(server, "ashes", "burnt", "green")
    second = _labels(server, "ashes", "burnt", "green", "smoke")
    viewer = server.as_("viewer")
    told = viewer.get("/label-sets", params={"every": True}).json()
    assert [(one["id"], one["version"]) for one in told if one["name"] == "ashes"] == [
        (first, 1), (second, 2),
    ]  # fmt: skip
    newest = viewer.get("/label-sets").json()
    assert [one["id"] for one in newest if one["name"] == "ashes"] == [second]


def test_who_adds_a_name_or_a_version_that_is_there_is_told(server: Site) -> None:
    """As where two admins have the page open."""
    admin = server.as_("admin")
    before = _people(server)
    twice = {"name": "ben", "role": "admin", "password": PASSWORD, "new": True}
    assert admin.post("/users", json=twice).status_code == 409
    assert _people(server) == before
    _labels(server, "soot", "burnt", "green")
    for label, code in (("smoke", 201), ("smoke", 201), ("steam", 409)):
        labels = [{"name": one} for one in ("burnt", label)]
        answer = admin.post("/label-sets", json={"name": "soot", "labels": labels, "version": 2})
        assert answer.status_code == code
    told = admin.get("/label-sets", params={"every": True}).json()
    assert [one["version"] for one in told if one["name"] == "soot"] == [1, 2]


def test_a_tag_is_relabelled_with_a_newer_version(server: Site) -> None:
    first = _labels(server, "walls", "cracked", "whole")
    tag = server.tag("ana", (600, 300, 48), "cracked", label_set=first).json()
    second = _labels(server, "walls", "leaning", "whole")
    assert "no 'cracked'" in _relabel(server, "ana", tag["id"], second, "cracked").json()["error"]
    assert _relabel(server, "viewer", tag["id"], second, "leaning").status_code == 403
    answer = _relabel(server, "ana", tag["id"], second, "leaning")
    assert answer.status_code == 201, answer.text
    new = answer.json()
    assert (new["label"], new["label_set"]) == ("leaning", second)
    assert (new["square"], new["chip"]) == (tag["square"], tag["chip"])
    held = server.as_("viewer").get("/tags", params={"label_set": "walls"}).json()["tags"]
    assert [one["id"] for one in held] == [new["id"]]
