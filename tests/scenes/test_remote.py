"""Images over the network: the same pixels as local ones, or a refusal, or a chunk set aside."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from aftermap.cluster.client import connected
from aftermap.scenes.errors import Refused
from aftermap.scenes.handles import close_handles
from aftermap.scenes.pair import make_pair
from aftermap.scenes.raster import open_raster
from aftermap.scenes.remote import RemoteFile, Unreachable, look, shown
from aftermap.scenes.scene import open_tiles
from distributed import Client
from loopback import FAULTS, Asked, Server, served
from rasters import texture, write_raster

import aftermap as am

SECRET = "X-Sig=topsecret%2B1&Expires=9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair on one grid, and the before image in another CRS at another resolution."""
    folder = tmp_path_factory.mktemp("images")
    pre = texture(900, 1100)
    post = pre.copy()
    post[:, 100:160, 200:300] ^= 255
    post[:, 490:560, 480:600] ^= 255
    write_raster(folder / "pre.tif", pre, compress="deflate")
    write_raster(folder / "post.tif", post, nodata=0, compress="deflate")
    write_raster(folder / "bare.tif", post)
    coarse = Affine(0.7, 0, 299_990, 0, -0.7, 4_100_010)
    write_raster(folder / "other.tif", texture(700, 850, 3), transform=coarse, compress="deflate")
    return folder


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name, value in (("TIMEOUT", "0.7"), ("MAX_RETRY", "1"), ("RETRY_DELAY", "0.05")):
        monkeypatch.setenv(f"GDAL_HTTP_{name}", value)
    with served(folder) as server:
        yield server
    close_handles()


@pytest.fixture(scope="module")
def threads() -> Iterator[Client]:
    with connected("threads", workers=2) as client:
        yield client


@pytest.fixture(scope="module")
def reference(folder: Path, threads: Client, tmp_path_factory: pytest.TempPathFactory) -> am.Run:
    """What the local files come to."""
    files = folder / "pre.tif", folder / "post.tif"
    return assess(*files, tmp_path_factory.mktemp("local") / "run", threads)


def assess(pre: object, post: object, out: Path, client: Client, **options: Any) -> am.Run:
    return am.assess(
        str(pre), str(post), out=out, method="difference", client=client, chunk=512, **options
    )


def remote(server: Server, out: Path, client: Client, query: str = "", **options: Any) -> am.Run:
    urls = server.url("pre.tif", query), server.url("post.tif", query)
    return assess(*urls, out, client, allow_remote=True, **options)


def rasters(run: am.Run) -> dict[str, str]:
    """Digests of a run's rasters, but for the run's id in them, and of its stored pixels."""
    files = [*run.path.glob("*.tif"), *run.path.glob("layers.zarr/*/c/**/*")]
    mine = run.record["run_id"].encode()
    return {
        str(path.relative_to(run.path)): hashlib.sha256(
            path.read_bytes().replace(mine, b"run")
        ).hexdigest()
        for path in files
        if path.is_file()
    }


def once(fault: Callable[[Asked], bool], times: int = 1) -> Callable[[Asked], bool]:
    """A fault of the first requests for pixels alone."""
    left = [times]

    def fail(asked: Asked) -> bool:
        if not asked.pixels or left[0] == 0:
            return False
        left[0] -= 1
        return fault(asked)

    return fail


# The same pixels


def test_local_and_remote_runs_have_the_same_layers(
    server: Server, threads: Client, reference: am.Run, tmp_path: Path
) -> None:
    run = remote(server, tmp_path / "run", threads)
    assert rasters(run) == rasters(reference)
    known = run.record["facts"]["inputs"]["post"][0]
    assert known["path"] == server.url("post.tif")
    assert known["bytes"] == (server.folder / "post.tif").stat().st_size
    assert known["etag"]
    assert run.buildings.empty == reference.buildings.empty
    areas = run.damage_areas, reference.damage_areas
    assert areas[0]["geometry"].geom_equals(areas[1]["geometry"]).all()


def test_only_parts_of_a_file_are_fetched(server: Server) -> None:
    url = server.url("bare.tif")
    raster = open_raster(url, allow_remote=True)
    scene = open_tiles(url, allow_remote=True)  # the collar needs every row once, without overviews
    close_handles()
    server.log.clear()
    scene.read(scene.grid, 0, 0, 128, 128)
    fetched = sum(last - first + 1 for method, _, first, last in server.log if method == "GET")
    assert 3 * 128 * 128 < fetched < raster.stamp[0] / 5
    assert {path for _, path, *_ in server.log} == {"/bare.tif"}  # nothing beside it is looked for


@pytest.mark.parametrize("grid", ["post", "pre"])
def test_warped_pixels_are_the_same(server: Server, folder: Path, grid: str) -> None:
    near = make_pair(folder / "other.tif", folder / "post.tif", grid=grid)
    far = make_pair(
        server.url("other.tif"), server.url("post.tif", SECRET), grid=grid, allow_remote=True
    )
    for window in ((0, 0, 300, 300), (250, 190, 700, 777)):
        for here, there in zip(near.read(*window), far.read(*window), strict=True):
            np.testing.assert_array_equal(here, there)


def test_a_lazy_pair_reads_over_the_network_in_dask(server: Server, folder: Path) -> None:
    far = am.open_pair(
        server.url("pre.tif"), server.url("post.tif", SECRET), chunks=300, allow_remote=True
    )
    near = am.open_pair(folder / "pre.tif", folder / "post.tif", chunks=300)
    assert far["post"].data.name != near["post"].data.name
    for name in ("pre", "post", "valid"):
        np.testing.assert_array_equal(far[name].compute(), near[name].compute())
    assert "topsecret" not in repr(far) + repr(far["post"].data.dask)


def test_a_header_travels_and_does_not_show_its_secret(server: Server) -> None:
    raster = open_raster(server.url("post.tif", SECRET), allow_remote=True)
    again = pickle.loads(pickle.dumps(raster))
    assert again == raster
    assert again.remote.address == server.url("post.tif", SECRET)
    assert "topsecret" not in f"{raster!r} {raster.path} {raster.remote} {raster.remote!r}"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_https_is_read_where_the_certificate_is_trusted_and_nowhere_else(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    certificate = tmp_path / "both.pem"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    keys = ["-keyout", str(certificate), "-out", str(tmp_path / "public.pem")]
    subprocess.run([*making, *keys], check=True, capture_output=True)
    certificate.write_text(certificate.read_text() + (tmp_path / "public.pem").read_text())
    read = (
        "import sys; from aftermap.scenes.scene import open_tiles\n"
        "scene = open_tiles(sys.argv[1], allow_remote=True)\n"
        "print(int(scene.read(scene.grid, 300, 300, 800, 900)[0].sum()))"
    )
    near = open_tiles(folder / "post.tif")
    total = int(near.read(near.grid, 300, 300, 800, 900)[0].sum())
    trust = {
        name: str(tmp_path / "public.pem")
        for name in ("SSL_CERT_FILE", "GDAL_CURL_CA_BUNDLE", "CURL_CA_BUNDLE")
    }
    with served(folder, certificate) as own:
        for environment, code in ((trust, 0), ({}, 1)):
            done = subprocess.run(
                [sys.executable, "-c", read, own.url("post.tif")],
                env=os.environ | environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == code, done.stderr
            if code == 0:
                assert done.stdout.strip() == str(total)
            else:
                assert "certificate verify failed" in done.stderr.lower()


# Faults that pass, and faults that stay


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_that_passes_changes_no_pixel(server: Server, folder: Path, fault: str) -> None:
    near = open_tiles(folder / "post.tif")
    far = open_tiles(server.url("post.tif"), allow_remote=True)
    server.fault = once(FAULTS[fault])
    close_handles()
    server.log.clear()
    window = 300, 300, 800, 900
    for here, there in zip(near.read(near.grid, *window), far.read(far.grid, *window), strict=True):
        np.testing.assert_array_equal(here, there)
    assert len(server.log) > 2


@pytest.mark.parametrize(
    ("fault", "name"),
    [(fault, "post.tif") for fault in sorted(FAULTS)]
    + [(fault, "bare.tif") for fault in sorted(FAULTS) if fault not in ("hanging", "elsewhere")],
)
def test_a_fault_that_stays_is_told_in_bounded_time_and_gives_no_pixel(
    server: Server, folder: Path, fault: str, name: str
) -> None:
    far = open_tiles(server.url(name, SECRET), allow_remote=True)
    close_handles()
    server.fault = lambda asked: asked.pixels and FAULTS[fault](asked)
    start = time.monotonic()
    with pytest.raises(Unreachable, match=re.escape(server.url(name))) as told:
        far.read(far.grid, 300, 300, 800, 900)
    assert time.monotonic() - start < 30
    assert "topsecret" not in str(told.value)
    assert told.value.__cause__ is None
    server.fault = lambda _: False  # the same thread reads again, and nothing bad was remembered
    here, _ = open_tiles(folder / name).read(far.grid, 300, 300, 800, 900)
    np.testing.assert_array_equal(far.read(far.grid, 300, 300, 800, 900)[0], here)


def test_a_server_that_sends_other_bytes_than_asked_for_is_found_out_at_the_door(
    server: Server, tmp_path: Path, threads: Client
) -> None:
    # GDAL does not look which bytes came, and uncompressed ones decode whatever they are.
    server.fault = lambda asked: asked.pixels and FAULTS["elsewhere"](asked)
    urls = server.url("bare.tif"), server.url("bare.tif")
    with pytest.raises(Refused, match="were asked for"):
        assess(*urls, tmp_path / "run", threads, allow_remote=True)


@pytest.mark.parametrize("fault", ["unavailable", "truncated", "hanging", "shorter"])
def test_a_server_that_fails_from_the_start_is_refused_in_words(
    server: Server, fault: str, tmp_path: Path, threads: Client
) -> None:
    server.fault = FAULTS[fault]
    start = time.monotonic()
    with pytest.raises(Refused, match=r"post\.tif cannot be read: .* \(attempts: 2\)") as told:
        remote(server, tmp_path / "run", threads, SECRET)
    assert time.monotonic() - start < 30
    assert "GDAL_HTTP_TIMEOUT" in str(told.value)
    assert "topsecret" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_what_was_cut_off_while_the_scene_is_measured_is_not_taken_for_black(
    server: Server, tmp_path: Path, threads: Client
) -> None:
    server.fault = lambda asked: asked.pixels and FAULTS["unavailable"](asked)
    with pytest.raises(Refused, match=r"(pre|post)\.tif"):
        remote(server, tmp_path / "run", threads)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fault", ["unavailable", "truncated"])
def test_chunks_that_cannot_be_fetched_are_set_aside_and_come_once_they_can(
    server: Server, tmp_path: Path, threads: Client, reference: am.Run, fault: str
) -> None:
    out = tmp_path / "run"
    size = (server.folder / "post.tif").stat().st_size

    def fail(asked: Asked) -> bool:
        late = size * 0.6 < asked.first < size - (1 << 16)
        begun = (out / "layers.zarr").exists()
        return begun and late and len(asked.content) == size and FAULTS[fault](asked)

    server.fault = fail
    run = remote(server, out, threads)
    assert 0 < len(run.quarantined) < 6, run.quarantined
    assert all(server.url("post.tif") in entry["reason"] for entry in run.quarantined)
    with rasterio.open(out / "damage.tif") as source:
        damage = source.read(1)
    aside = np.zeros(damage.shape, bool)
    for entry in run.quarantined:
        aside[slice(*entry["rows"]), slice(*entry["cols"])] = True
    assert (damage[aside] == 255).all()
    whole = reference.layers["damage"].values
    np.testing.assert_array_equal(damage[~aside], whole[~aside])
    server.fault = lambda _: False
    again = remote(server, out, threads)
    assert again.quarantined == []
    assert again.record["chunks_run"] == len(run.quarantined)
    assert rasters(again) == rasters(reference)


@pytest.mark.slow
def test_worker_processes_go_on_when_a_dead_server_is_back(
    server: Server, tmp_path: Path, reference: am.Run, folder: Path
) -> None:
    out = tmp_path / "run"
    words = [sys.executable, "-m", "aftermap", "assess", server.url("pre.tif", SECRET)]
    words += [server.url("post.tif", SECRET), "-o", str(out), "--allow-remote", "--workers", "1"]
    words += ["--method", "difference", "--chunk", "512"]

    def assessed() -> subprocess.CompletedProcess[str]:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert "topsecret" not in done.stdout + done.stderr
        return done

    server.fault = lambda asked: (out / "layers.zarr").exists() and FAULTS["unavailable"](asked)
    done = assessed()
    assert done.returncode == 4, done.stderr
    found = json.loads((out / "run.json").read_text())
    assert len(found["quarantined"]) == 6
    assert "503" in found["quarantined"][0]["reason"]
    server.fault = lambda _: False
    done = assessed()
    assert done.returncode == 0, done.stderr
    assert rasters(am.Run(out)) == rasters(reference)
    for path in out.rglob("*"):
        assert path.is_dir() or b"topsecret" not in path.read_bytes(), path


# Files that change


def copied(folder: Path, name: str, to: Path) -> Path:
    shutil.copy(folder / name, to / "image.tif")
    return to / "image.tif"


def test_a_file_that_changes_while_it_is_read_is_noticed(
    folder: Path, tmp_path: Path, server: Server
) -> None:
    file = copied(folder, "post.tif", tmp_path)
    with served(tmp_path) as own:
        scene = open_tiles(own.url(file.name), allow_remote=True)
        before = scene.read(scene.grid, 0, 0, 200, 200)[0]
        stat = file.stat()
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
        with pytest.raises(Unreachable, match="changed since it was opened"):
            scene.read(scene.grid, 0, 0, 200, 200)
        assert before.any()


def test_a_file_that_was_replaced_is_read_anew_in_the_same_process(
    folder: Path, tmp_path: Path, server: Server
) -> None:
    file = copied(folder, "post.tif", tmp_path)
    with served(tmp_path) as own:
        for name in ("post.tif", "pre.tif"):
            copied(folder, name, tmp_path)
            far = open_tiles(own.url(file.name), allow_remote=True)
            near = open_tiles(folder / name)
            window = 400, 400, 700, 700
            np.testing.assert_array_equal(
                far.read(far.grid, *window)[0], near.read(near.grid, *window)[0]
            )


def test_another_version_is_another_run(folder: Path, tmp_path: Path, threads: Client) -> None:
    shutil.copy(folder / "pre.tif", tmp_path / "pre.tif")
    file = copied(folder, "post.tif", tmp_path)
    with served(tmp_path) as own:
        urls = own.url("pre.tif"), own.url(file.name)
        assess(*urls, tmp_path / "run", threads, allow_remote=True)
        os.utime(file, (1, 1))
        with pytest.raises(Refused, match=r"inputs\.post: was"):
            assess(*urls, tmp_path / "run", threads, allow_remote=True)


# What is refused at the door


def test_without_the_flag_no_request_is_made(
    server: Server, folder: Path, tmp_path: Path, threads: Client
) -> None:
    with pytest.raises(Refused, match="--allow-remote") as told:
        assess(folder / "pre.tif", server.url("post.tif", SECRET), tmp_path / "run", threads)
    assert server.url("post.tif") in str(told.value)
    assert "topsecret" not in str(told.value)
    assert server.log == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("/vsicurl/http://127.0.0.1:9/a.tif?topsecret", "not a local file"),
        ("/vsicurl?url=http%3A%2F%2F127.0.0.1%3A9%2Fa.tif%3Ftopsecret", "not a local file"),
        ("ftp://user:topsecret@127.0.0.1/a.tif", "not a local file"),
        ("s3://bucket/a.tif?topsecret", "not a local file"),
        ("file:///etc/passwd", "not a local file"),
        ("http://user:topsecret@127.0.0.1:9/a.tif", "user name or password"),
        ("http://topsecret@127.0.0.1:9/a.tif", "user name or password"),
        ("http://127.0.0.1:9/a b.tif", "Percent-encode"),
        ("http://127.0.0.1:9/a.tif\n?topsecret", "Percent-encode"),
        ("http://127.0.0.1:9/", "no URL of a file"),
        ("http:///a.tif", "no http or https URL"),
        ("http://127.0.0.1:99999/a.tif?topsecret", "is no URL"),
        ("http://[::1/a.tif", "is no URL"),
        ("http://127.0.0.1:9/a.tif?topsecret", "cannot be read"),
    ],
)
def test_addresses_that_are_not_read_even_with_the_flag(
    given: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    with pytest.raises(Refused, match=said) as told:
        open_raster(given, allow_remote=True)
    assert "topsecret" not in str(told.value)


def test_a_redirect_is_refused_and_both_addresses_are_named(server: Server) -> None:
    to = server.url("post.tif", SECRET).replace("127.0.0.1", "localhost")
    server.fault = lambda asked: asked.answer(302, headers={"Location": to})
    with pytest.raises(Refused, match="redirects are not followed") as told:
        open_raster(server.url("pre.tif"), allow_remote=True)
    assert server.url("pre.tif") in str(told.value)
    assert f"localhost:{server.port}/post.tif" in str(told.value)
    assert "topsecret" not in str(told.value)
    assert {path for _, path, *_ in server.log} == {"/pre.tif"}


def test_a_server_without_ranges_is_refused(server: Server) -> None:
    server.fault = lambda asked: asked.answer(200, asked.content)
    with pytest.raises(Refused, match="cannot be read in parts"):
        open_raster(server.url("pre.tif"), allow_remote=True)


def test_answers_that_are_final_are_not_asked_for_again(server: Server) -> None:
    with pytest.raises(Unreachable, match="404"):
        open_raster(server.url("gone.tif"), allow_remote=True)
    server.fault = lambda asked: asked.answer(403)
    with pytest.raises(Unreachable, match=r"403.*signature run out"):
        open_raster(server.url("pre.tif", SECRET), allow_remote=True)
    assert len(server.log) == 2


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_what_a_server_sends_is_checked_like_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "a.tif").write_text(f'<VRTDataset rasterXSize="9"><!-- {tmp_path} --></VRTDataset>')
    (tmp_path / "b.tif").write_bytes(b"II*\0" + bytes(60))
    (tmp_path / "page.tif").write_text("<html>Please log in</html>")
    write_raster(tmp_path / "image.png", texture(64, 64), driver="PNG", tiled=None)
    with rasterio.open(
        tmp_path / "huge.tif",
        "w",
        driver="GTiff",
        width=1_000_000,
        height=1_000_000,
        count=1,
        dtype="uint8",
        tiled=True,
        sparse_ok=True,
        bigtiff=True,
        blockxsize=16384,
        blockysize=16384,
    ):
        pass
    with served(tmp_path) as own:
        for name, said in (
            ("empty.tif", "empty|cannot be read"),
            ("a.tif", "A VRT can point at any file"),
            ("b.tif", "cannot be opened"),
            ("page.tif", "not an image"),
            ("image.png", "only GeoTIFFs are read"),
            ("huge.tif", "1000000 x 1000000"),
        ):
            with pytest.raises(Refused, match=said) as told:
                open_raster(own.url(name, SECRET), allow_remote=True)
            assert "topsecret" not in str(told.value)


# What is told, and what is not


def test_nothing_that_is_written_down_holds_the_signature(
    server: Server, threads: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fault = once(FAULTS["unavailable"])
    run = remote(server, tmp_path / "run", threads, SECRET, hash_inputs=True)
    assert run.record["sha256"][server.url("pre.tif")] == (
        hashlib.sha256((server.folder / "pre.tif").read_bytes()).hexdigest()
    )
    assert any("503" in record.getMessage() for record in caplog.records)
    assert "topsecret" not in caplog.text
    for path in run.path.rglob("*"):
        assert path.is_dir() or b"topsecret" not in path.read_bytes(), path
    assert {path.partition("?")[2] for _, path, *_ in server.log} == {SECRET}


def test_a_finished_run_opens_its_images_again(
    server: Server, threads: Client, tmp_path: Path
) -> None:
    run = remote(server, tmp_path / "run", threads)
    pixels = run.pair().read(100, 200, 160, 300)
    assert (pixels.post == pixels.pre ^ 255).all()


def test_a_text_is_shown_without_queries_and_credentials() -> None:
    for text, told in (
        (
            "HTTP error 503 - https://h.org/a/b.tif?k=s#1. Retrying",
            "HTTP error 503 - https://h.org/a/b.tif Retrying",
        ),
        ("https://me:pw@h.org/b.tif", "https://h.org/b.tif"),
        ("'/vsicurl?timeout=1&url=https%3A%2F%2Fh%2Fb.tif%3Fk%3Ds, band 2", "'the file, band 2"),
        ("no secret? none", "no secret? none"),
    ):
        assert shown(text) == told


def test_a_look_tells_versions_apart(server: Server, folder: Path) -> None:
    file = RemoteFile.of(server.url("post.tif"))
    found = look(file)
    assert found.size == (folder / "post.tif").stat().st_size
    assert found.head == (folder / "post.tif").read_bytes()[: len(found.head)]
    assert found.stamp == look(file).stamp
    assert dataclasses.replace(found, etag='"other"').stamp != found.stamp
    assert dataclasses.replace(found, head=found.head[::-1]).stamp != found.stamp
