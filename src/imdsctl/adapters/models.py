"""botocore's data files, read without importing botocore (its session alone costs a tenth of a second)."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from imdsctl.wire.service import Service


@cache
def load_service(name: str) -> Service:
    """The newest API of a service, by botocore's name for it (`ec2`, `sts`, `organizations`).

    Raises `KeyError` when botocore knows no such service.
    """
    return Service(load_data(name, "service-2"))


def load_data(service: str, kind: str) -> dict[str, Any]:
    """One data file of a service's newest API that has it; `kind` is `service-2` or `endpoint-rule-set-1`.

    Raises `KeyError` when there is none.
    """
    folder = data_folder() / service
    if folder.is_dir():
        for version in sorted(folder.iterdir(), reverse=True):
            if (content := _read(version / kind)) is not None:
                return content
    raise KeyError(f"botocore has no `{kind}` for a service called `{service}`")


def load_partitions() -> dict[str, Any]:
    """AWS's partitions with their Regions and domain names."""
    content = _read(data_folder() / "partitions")
    if content is None:
        raise KeyError("botocore has no `partitions`")
    return content


@cache
def load_endpoints() -> dict[str, Any]:
    """Which service is where, partition by partition."""
    content = _read(data_folder() / "endpoints")
    if content is None:
        raise KeyError("botocore has no `endpoints`")
    return content


@cache
def data_folder() -> Path:
    """Where botocore is installed keeps its data. Raises `ModuleNotFoundError` when botocore is missing."""
    spec = find_spec("botocore")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("botocore is not installed", name="botocore")
    return Path(spec.submodule_search_locations[0]) / "data"


def _read(stem: Path) -> dict[str, Any] | None:
    """`stem` with one of botocore's two endings; None when there is neither."""
    try:
        data = gzip.decompress(stem.with_name(stem.name + ".json.gz").read_bytes())
    except FileNotFoundError:
        try:
            data = stem.with_name(stem.name + ".json").read_bytes()
        except FileNotFoundError:
            return None
    content: dict[str, Any] = orjson.loads(data)
    return content
