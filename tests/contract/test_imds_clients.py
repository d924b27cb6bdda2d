"""Real metadata clients, unmodified, on an instance and one hop away, with tokens optional and required.

Every program of `tests/cases/clients/imds.json` runs in every cell, in network namespaces of its own, against a
metadata service of its own; what it put out and what the service saw must be what the table says. A program that waits
longer than `seconds_short` is looked at after that time, when no token may have reached it; `IMDSCTL_SOAK_CLIENTS=1`
(`make soak`) waits until it ends.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path

import pytest
from tests.contract.imds_clients.cell import Observation, Services
from tests.contract.imds_clients.programs import ROOT, command_line, missing
from tests.contract.imds_clients.table import Cell, Client, read_table
from tests.contract.needs import missing as lacks
from tests.contract.needs import with_namespaces
from tests.contract.test_terraform import find_provider, plugin_directory

from imdsctl.host.bed import Bed
from imdsctl.imds.messages import Access

TABLE = read_table()
LONG = os.environ.get("IMDSCTL_SOAK_CLIENTS") == "1"
SECONDS_MAX = 120.0
"""For programs that end by themselves within `seconds_short` where nothing else runs."""
WORKING_MAX, WAITING_MAX = 3, 24
"""So many programs side by side: of those that work all the time, and of those that wait for most of it."""
[FALLBACK] = [cell for cell in TABLE.cells if cell.http_tokens == "optional" and not cell.token_arrives]
"""Where a program gets no token, but could go on without one."""

TERRAFORM = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" { type = string }

provider "aws" {
  region                      = "us-east-1"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  endpoints { sts = var.endpoint }
}

data "aws_caller_identity" "me" {}
"""

Observe = Callable[[Client, Cell, bool], Observation]


@cache
def provider() -> Path | None:
    return find_provider() if shutil.which("terraform") else None


def is_cut_short(client: Client, cell: Cell) -> bool:
    return not LONG and client.seconds.get(cell.name, 0.0) > TABLE.seconds_short


def left_to_soak(client: Client, cell: Cell) -> bool:
    return not LONG and cell.name in client.only_in_soak


def expected(client: Client, cell: Cell, switched: bool) -> str:
    """The outcome; `switched` off IMDSv1 the client has no other way than to give up."""
    if is_cut_short(client, cell):
        return "waits"
    return "no token" if switched else client.outcomes[cell.name]


def lacking(client: Client) -> str | None:
    """Why a client cannot be run here."""
    if client.needs == "terraform" and provider() is None:
        return "there is no Terraform, or its AWS provider 5 is nowhere on the disk"
    return missing(client)


def terraform(folder: Path) -> Path:
    """A working directory with the AWS provider."""
    there = provider()
    assert there is not None
    (folder / "main.tf").write_text(TERRAFORM)
    plugins = plugin_directory(there, folder / "plugins")
    init = ["terraform", f"-chdir={folder}", "init", "-backend=false", f"-plugin-dir={plugins}"]
    subprocess.run(init, check=True, capture_output=True, env={"PATH": os.environ["PATH"], "HOME": str(folder)})
    return folder


@pytest.fixture(scope="module")
def beds() -> None:
    """Network namespaces can be made here."""
    with_namespaces(lambda: Bed().close())


@pytest.fixture(scope="module")
def observe(beds: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observe]:
    """What a client does in a cell, with or without its switch against IMDSv1.

    All that the selected tests will ask for is begun at once, those that wait longest first. Clients have time-outs of
    a second: one that does something else than expected is asked again when nothing else runs.
    """
    asked = [
        (each["client"], each["cell"], each["switched"])
        for each in (getattr(item, "callspec", None) and item.callspec.params for item in request.session.items)
        if each and "switched" in each and not (lacking(each["client"]) or left_to_soak(each["client"], each["cell"]))
    ]
    asked.sort(key=lambda each: each[0].seconds.get(each[1].name, 0.0), reverse=True)
    needs_terraform = any(client.needs == "terraform" for client, _, _ in asked)
    folder = terraform(tmp_path_factory.mktemp("terraform")) if needs_terraform else None

    def run(client: Client, cell: Cell, switched: bool) -> Observation:
        seconds = TABLE.seconds_short if is_cut_short(client, cell) else TABLE.seconds_max if LONG else SECONDS_MAX
        env = {**client.env, **dict([client.switch.split("=")] if switched else [])}
        return services.observe(cell, command_line(client, folder), env, seconds)

    with Services() as services, ThreadPoolExecutor(WORKING_MAX) as working, ThreadPoolExecutor(WAITING_MAX) as waiting:
        begun: dict[tuple[str, str, bool], Future[Observation]] = {}
        for client, cell, switched in asked:
            pool = waiting if cell.name in client.seconds else working
            begun[client.name, cell.name, switched] = pool.submit(run, client, cell, switched)

        def outcome(client: Client, cell: Cell, switched: bool) -> Observation:
            observation = begun[client.name, cell.name, switched].result()
            if observation.outcome(client.gets) != expected(client, cell, switched):
                wait(begun.values())
                observation = run(client, cell, switched)
            return observation

        yield outcome


def name(value: object) -> str | None:
    return value.name if isinstance(value, Client | Cell) else None


@pytest.mark.parametrize("switched", [False], ids=[""])
@pytest.mark.parametrize("cell", TABLE.cells, ids=name)
@pytest.mark.parametrize("client", TABLE.clients, ids=name)
def test_a_client_does_what_the_table_says(
    client: Client, cell: Cell, switched: bool, request: pytest.FixtureRequest
) -> None:
    observation = observed(request, client, cell, switched)
    outcome = observation.outcome(client.gets)
    assert outcome == expected(client, cell, switched), observation
    if cell.http_tokens == "required":
        assert observation.seen[Access.V1] == 0
    if not cell.token_arrives:
        assert observation.seen[Access.V2] == 0, "a token arrived too far away"
    if client.gets == "access-key" and outcome in ("v1", "v2"):
        assert observation.delivery() == outcome, "credentials say by which version they were fetched"


@pytest.mark.parametrize("switched", [True], ids=[""])
@pytest.mark.parametrize("cell", [FALLBACK], ids=name)
@pytest.mark.parametrize("client", [client for client in TABLE.clients if client.switch], ids=name)
def test_a_client_that_can_be_told_to_never_calls_by_imdsv1(
    client: Client, cell: Cell, switched: bool, request: pytest.FixtureRequest
) -> None:
    observation = observed(request, client, cell, switched)
    assert observation.outcome(client.gets) == expected(client, cell, switched), observation
    assert observation.seen[Access.V1] == 0


def observed(request: pytest.FixtureRequest, client: Client, cell: Cell, switched: bool) -> Observation:
    """What the client did; skips where it cannot be run."""
    if left_to_soak(client, cell):
        pytest.skip("costs seconds of CPU: `make soak` runs it")
    if (lack := lacking(client)) is not None:
        lacks(lack)
    observe: Observe = request.getfixturevalue("observe")
    return observe(client, cell, switched)


def test_every_client_that_the_issue_names_and_more_are_in_the_table() -> None:
    assert len(TABLE.clients) >= 20
    assert len({client.language.partition(",")[0] for client in TABLE.clients}) >= 8
    for client in TABLE.clients:
        for cell in TABLE.cells:
            outcome = client.outcomes[cell.name]
            assert not (cell.http_tokens == "required" and outcome == "v1"), f"{client.name} cannot in {cell.name}"
            assert not (not cell.token_arrives and outcome == "v2"), f"{client.name} cannot in {cell.name}"


def test_the_page_about_clients_is_what_the_table_makes_of_it() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "imds_clients.py"))
    present = written["PAGE"].read_text()
    assert present == written["page"](present), "`make docs` writes it anew"
