"""What makes two runs the same run: inputs, weights and options, reduced to one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from ..scenes.errors import Refused
from ..scenes.handles import beside
from ..scenes.remote import RemoteFile, fingerprint_remote, sha256_remote

_TILES = 64
_TILE_BYTES = 4096


def fingerprint_file(path: str | Path | RemoteFile) -> dict[str, object]:
    """Identify a file: its size, and one SHA-256 over its size, its head and 64 evenly spaced blocks.

    Cheap for any size; a change of a few bytes in the middle of a large file can go unseen. Of a
    remote file fewer blocks are fetched, and what its server says of its version is kept too.
    """
    if isinstance(path, RemoteFile):
        return fingerprint_remote(path)
    file = Path(path)
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        digest.update(stream.read(16 * _TILE_BYTES))
        for k in range(_TILES):
            stream.seek(max(0, (size - _TILE_BYTES)) * k // (_TILES - 1))
            digest.update(stream.read(_TILE_BYTES))
    return {"path": str(file), "bytes": size, "sampled_sha256": digest.hexdigest()}


def fingerprint_input(file: Path | RemoteFile) -> dict[str, object]:
    """Identify a file and, under `beside`, the masks and overviews that are read with it, if any."""
    others = [fingerprint_file(other) for other in beside(file)]
    return fingerprint_file(file) | ({"beside": others} if others else {})


def parts_of(path: str | Path) -> list[Path]:
    """The files that a source consists of: a folder's, a shapefile's, or the file and what lies beside.

    Never none: Refused for an empty folder.
    """
    source = Path(path).resolve()
    if source.is_dir():
        found = sorted(file for file in source.rglob("*") if file.is_file())
        if not found:
            raise Refused(f"The folder {str(source)!r} is empty. Check the path that was given.")
        return found
    if source.suffix.lower() == ".shp":
        return sorted(source.parent.glob(f"{escape(source.stem)}.*")) or [source]
    return [source, *beside(source)]


def sha256_file(path: str | Path | RemoteFile) -> str:
    """The SHA-256 of a whole file."""
    if isinstance(path, RemoteFile):
        return sha256_remote(path)
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(facts: Mapping[str, Any]) -> str:
    """One hexadecimal digest of plain values, independent of the order of keys."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as they come back from a file."""
    values: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return values


def without(facts: Mapping[str, Any], paths: Collection[str], within: str = "") -> dict[str, Any]:
    """Facts but for those at some paths, which name them as `differences` does."""
    return {
        key: without(value, paths, f"{within}{key}.") if isinstance(value, Mapping) else value
        for key, value in facts.items()
        if f"{within}{key}" not in paths
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> list[str]:
    """What changed between two sets of facts, one line each, named by its path."""
    lines = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        name = f"{within}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{name}.")
        elif old != new:
            lines.append(f"{name}: was {_short(old)}, now {_short(new)}")
    return lines


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 160 else text[:157] + "..."
