"""Whatever a rollout writes, its user alone can read, also where the umask takes nothing; and no secret is in it."""

from __future__ import annotations

import base64
import json
import sqlite3
import stat
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One process for all of it: each line is a command line, `{count}` is the number of the plan's changes.
RUNNER = """
import json, os, sys
from imdsctl.bootstrap import main
os.umask(0)
for words in json.loads(sys.argv[1]):
    if "{count}" in words:
        words[words.index("{count}")] = str(json.load(open("plan.json"))["count"])
    code = main(words)
    if code:
        sys.exit(f"{words}: exit code {code}")
"""
REPORTS = ("html", "csv", "json", "sarif", "ocsf", "asff", "junit")
REGION = "us-east-1"
USER_DATA = "export DATABASE_PASSWORD=hush"
PLACE = ("--regions", REGION, "--db", "db/scans.sqlite3")
KEPT = ("--db", "db/scans.sqlite3")
WORK: tuple[tuple[str, ...], ...] = (
    ("scan", "--regions", REGION),
    ("scan", *PLACE, "--json"),
    ("evidence", "--yes", *KEPT),
    ("plan", "-o", "plan.json", "--html", "plan.html", *KEPT),
    *(("report", "-f", kind, "-o", f"report.{kind}", *KEPT) for kind in REPORTS),
    ("export", "role", "--cloudformation", "-o", "role.yaml"),
    ("export", "terraform", "-o", "terraform", *KEPT),
    ("export", "cli", "-o", "script.sh", *KEPT),
    ("policy", "generate", "scp", "-o", "guardrails"),
    ("apply", "plan.json", "--confirm", "{count}"),
    ("init", *KEPT),
    ("run", "--no-namespaces", "--report", "run.json", "--", "true"),
    ("local", "snapshot", "snapshot"),
)
DIRECTORIES = {"db", "terraform", "guardrails", "imdsctl"}
"""Those that the program makes."""


def test_what_a_rollout_writes_is_its_users_alone_and_holds_no_secret(
    start_local: Callable[..., Any], tmp_path: Path
) -> None:
    options = ("--accounts", "3", "--instances", "4", "--v1-percent", "0", "--seed", "5", "--regions", REGION)
    shell = start_local(*options, "--state", str(tmp_path / "state"))
    # What launches may be given to run: AWS shows it to whoever may read templates, and nothing of it is kept.
    given = base64.b64encode(USER_DATA.encode()).decode()
    query = ("--owners", "amazon", "--query", "Images[0].ImageId", "--output", "text")
    image = shell.aws("ec2", "describe-images", *query, "--region", REGION).stdout.strip()
    data = json.dumps({"UserData": given, "ImageId": image})
    names = ("--launch-template-name", "told", "--launch-template-data", data)
    configured = (
        "--launch-configuration-name",
        "c",
        "--image-id",
        image,
        "--instance-type",
        "m5.large",
    )
    for command in (
        ("ec2", "create-launch-template", *names),
        ("autoscaling", "create-launch-configuration", *configured, "--user-data", USER_DATA),
    ):
        made = shell.aws(*command, "--region", REGION)
        assert made.returncode == 0, made.stderr
    folder = shell.home / "work"
    folder.mkdir()
    done = shell.run("sh", "-c", f'cd work && exec "{sys.executable}" -c "$0" "$1"', RUNNER, json.dumps(WORK))
    assert done.returncode == 0, done.stderr
    written = [*folder.rglob("*"), *(shell.home / "data").rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in written}
    assert {path.name: oct(mode) for path, mode in modes.items() if path.is_file() and mode != 0o600} == {}
    ours = {path for path in written if path.is_dir() and path.name in DIRECTORIES}
    assert {path.name: oct(modes[path]) for path in ours if modes[path] != 0o700} == {}
    wanted = {*DIRECTORIES, "plan.json.journal", "snapshot", "run.json", *(f"report.{each}" for each in REPORTS)}
    assert wanted <= {path.name for path in written}
    secret = shell.env["AWS_SECRET_ACCESS_KEY"]
    assert secret not in done.stdout + done.stderr
    # A snapshot is the local AWS itself: it remembers the sessions that it gave.
    files = [path for path in written if path.is_file() and path.name != "snapshot"]
    assert [path.name for path in files if secret.encode() in path.read_bytes()] == []
    assert [path.name for path in files if b"ASIA" in path.read_bytes()] == [], "keys of a session"
    database = sqlite3.connect(folder / "db" / "scans.sqlite3")
    documents = [zlib.decompress(document) for (document,) in database.execute("SELECT document FROM targets")]
    database.close()
    kept = [done.stdout.encode(), *documents, *(path.read_bytes() for path in files)]
    assert any(b'"told"' in each for each in documents), "the template was seen"
    assert not [each for each in kept if USER_DATA.encode() in each or given.encode() in each]
