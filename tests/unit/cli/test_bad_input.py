"""Bad input to `check`, `policy check` and `policy replay`: each file is named with the place, the rest is processed,
and the exit code says that it was partial."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import NoReturn

import pytest

from imdsctl.cli.app import run as command
from imdsctl.cli.dependencies import Dependencies

CASES = Path(__file__).parents[2] / "cases"
GUARD = str(CASES / "guardrails" / "good" / "launch-required.json")
STAR = (CASES / "guardrails" / "bad" / "lock-out-star.json").read_text()
TYPO = (CASES / "iac" / "files" / "bad-typo.tf").read_text()


def nothing(*_: object) -> NoReturn:
    raise AssertionError("a check asks nobody")


NOTHING = Dependencies(aws=nothing, scans=nothing, now=nothing, new_id=nothing)


def event(number: int = 0) -> str:
    who = {"type": "AssumedRole", "arn": "arn:aws:sts::111122223333:assumed-role/ci/s", "accountId": "111122223333"}
    who_else = {"sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::111122223333:role/ci"}}}
    items = [{"imageId": "ami-0123456789abcdef0", "minCount": 1, "maxCount": 1}]
    return json.dumps(
        {
            "eventVersion": "1.08",
            "userIdentity": {**who, **who_else},
            "eventTime": "2026-11-26T00:00:00Z",
            "eventSource": "ec2.amazonaws.com",
            "eventName": "RunInstances",
            "awsRegion": "eu-west-1",
            "userAgent": "aws-cli/2",
            "requestParameters": {"instancesSet": {"items": items}, "clientToken": os.urandom(40).hex()},
            "eventID": str(number),
            "recipientAccountId": "111122223333",
        },
        separators=(",", ":"),
    )


TRAIL = '{"Records":[%s]}'
NO_IDENTITY = '{"eventVersion":"1.08","eventSource":"ec2.amazonaws.com","eventName":"RunInstances"}'


LISTS, TABLES, OBJECTS = "[" * 3000 + "]" * 3000, "{a=" * 3000 + "1" + "}" * 3000, '{"a":' * 3000 + "1" + "}" * 3000
PLAN = '{"format":"imdsctl-plan","format_version":2,"digest":"","x":%s}' % ("[" * 300 + "]" * 300)


@pytest.mark.parametrize(
    ("words", "content", "code"),
    [
        (("intent", "check", "FILE.toml"), f"version = 1\nx = {LISTS}", "intent-syntax"),
        (("intent", "check", "FILE.toml"), f"version = 1\nx = {TABLES}", "intent-syntax"),
        (("run", "--config", "FILE.toml", "--", "true"), f"x = {LISTS}", "imds-config-syntax"),
        (("local", "up", "--faults", "FILE.toml"), f"x = {LISTS}", "faults-syntax"),
        (("local", "up", "--faults", "FILE.json"), OBJECTS, "faults-syntax"),
        (("policy", "simulate", "--requests", "FILE.json"), LISTS, "requests-unreadable"),
        (("policy", "simulate", "--requests", "FILE.json"), OBJECTS, "requests-unreadable"),
        (("apply", "FILE.json"), OBJECTS, "plan-invalid"),
        (("apply", "FILE.json"), PLAN, "plan-invalid"),
        (("apply", "FILE.json"), PLAN.replace("{", '{"changes":[\n],', 1), "plan-invalid"),
        (("scan", "--accounts-file", "FILE.json"), LISTS, "accounts-file-invalid"),
    ],
)
def test_what_is_nested_too_deep_is_a_mistake_in_the_file(
    words: tuple[str, ...], content: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("FILE", str(tmp_path / "deep")) for word in words]
    (tmp_path / "deep.json").write_text(content)
    (tmp_path / "deep.toml").write_text(content)
    assert command(given, NOTHING) == 2
    err = capsys.readouterr().err
    assert f"error[{code}]" in err
    assert "deep" in err.replace(str(tmp_path / "deep"), "") or "depth" in err
    assert str(tmp_path / "deep") in err.replace("\n", "")


@pytest.mark.parametrize(
    ("name", "content", "place", "why"),
    [
        ("comment.json", b'{ // no\n"Version": "2012-10-17"}', None, ""),
        ("cut.json", STAR[:60].encode(), ":5:7", "a string without an end"),
        ("half.json", STAR[:51].encode(), ":4:6", "ends in the middle"),
        ("empty.json", b"", ":1:1", "it is empty"),
        ("binary.json", bytes(range(128, 256)) * 9, ":1:1", "byte 0 is not UTF-8"),
        ("latin.json", b'{\n "Id": "caf\xe9"}', ":2:12", "byte 13 is not UTF-8"),
        ("utf16.json", STAR.encode("utf-16"), ":1:1", "UTF-16"),
        ("large.json", b'{"Statement": [' + b"{}," * 2_100_000 + b"{}]}", "", "more than 200,000 characters"),
    ],
)
def test_policies(
    name: str, content: bytes, place: str | None, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "star.json").write_text(STAR)
    assert command(["policy", "check", str(tmp_path / name), str(tmp_path / "star.json")], NOTHING) == 1
    out, err = capsys.readouterr()
    assert "[absent-key]" in out
    if place is None:
        assert f"{tmp_path / name}:1:3: error: not JSON [not-json]" in out
    else:
        assert f"{tmp_path / name}{place}" in err
        assert why in err
        assert "partial: 1 could not be read" in out


@pytest.mark.parametrize(
    ("name", "content", "place", "counted"),
    [
        ("cut.json.gz", None, "", "of its records are counted"),
        ("bytes.json.gz", b"\x1f\x8b" + bytes(range(256)), "", "0 of its records"),
        ("comment.json", ('{"Records":[ // no\n' + f"{event()},\n{event()}]}}").encode(), ":1:14", "2 of its records"),
        ("comma.json", f"[{event()},]".encode(), ":1:", "1 of its records"),
        ("cut.json", (TRAIL % ",".join([event(), event()]))[:-60].encode(), "", "1 of its records"),
        ("empty.json", b"", "", "it is empty"),
        ("binary.json", bytes(range(128, 256)) * 9, "", "byte 0 is not UTF-8"),
        ("utf16.json", (TRAIL % event()).encode("utf-16"), "", "UTF-16"),
        ("missing.json", (TRAIL % f"{event()},{NO_IDENTITY},{event()}").encode(), "", "record 2: `userIdentity`"),
        ("lines.jsonl", f"{event()}\n{{{event()}\n{event()}\n".encode(), "", "record 2: not JSON"),
    ],
)
def test_events(
    name: str, content: bytes | None, place: str, counted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "trail"
    folder.mkdir()
    (folder / "good.json").write_text(TRAIL % event())
    if content is None:
        packed = gzip.compress((TRAIL % ",".join(event(n) for n in range(500))).encode())
        content = packed[: len(packed) // 2]
    (folder / name).write_bytes(content)
    assert command(["policy", "replay", "--scp", GUARD, "--cloudtrail", str(folder)], NOTHING) == 1
    out, err = capsys.readouterr()
    assert f"{folder / name}{place}" in err
    assert counted in err
    assert out.rstrip().rpartition("\n")[2].startswith("partial: not everything could be read.")
    assert "\n  RunInstances  " in out


def test_half_of_a_packed_file_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = gzip.compress((TRAIL % ",".join(event(n) for n in range(500))).encode())
    (tmp_path / "cut.json.gz").write_bytes(packed[: len(packed) // 2])
    command(["policy", "replay", "--scp", GUARD, "--cloudtrail", str(tmp_path), "--json"], NOTHING)
    seen = json.loads(capsys.readouterr().out)
    assert seen["events"] > 200


def test_links_that_go_in_a_circle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("loop.json", "loop.tf"):
        (tmp_path / name).symlink_to(name)
    (tmp_path / "self").symlink_to(".")
    (tmp_path / "zz.tf").write_text(TYPO)
    (tmp_path / "zz.json").write_text(TRAIL % event())
    for arguments, found in (
        (["check", str(tmp_path)], "[invalid-value]"),
        (["policy", "check", str(tmp_path / "loop.json"), GUARD], "2 files checked"),
        (["policy", "replay", "--scp", GUARD, "--cloudtrail", str(tmp_path)], "RunInstances"),
        (["policy", "replay", "--scp", GUARD, "--cloudtrail", str(tmp_path / "loop.json")], "partial"),
    ):
        assert command(arguments, NOTHING) == 1
        out, err = capsys.readouterr()
        assert found in out
        assert "too many levels of symbolic links" in err.lower()
        assert str(tmp_path / "loop.") in err


def test_folders_that_nobody_may_look_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    if os.access(closed, os.R_OK):
        pytest.skip("root may look into every folder")
    (tmp_path / "zz.tf").write_text(TYPO)
    (tmp_path / "zz.json").write_text(TRAIL % event())
    for arguments, found in (
        (["check", str(tmp_path)], "[invalid-value]"),
        (["policy", "replay", "--scp", GUARD, "--cloudtrail", str(tmp_path)], "RunInstances"),
    ):
        assert command(arguments, NOTHING) == 1
        out, err = capsys.readouterr()
        assert found in out
        assert "permission denied" in err.lower()
        assert str(closed) in err


def test_a_guardrail_in_another_encoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "guard.json").write_bytes(b'{\n "Id": "caf\xe9"}')
    (tmp_path / "good.json").write_text(TRAIL % event())
    arguments = ["--scp", str(tmp_path / "guard.json"), "--cloudtrail", str(tmp_path / "good.json")]
    assert command(["policy", "replay", *arguments], NOTHING) == 2
    assert f"{tmp_path / 'guard.json'}:2:12" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_template_of_six_megabytes(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def one(number: int) -> dict[str, object]:
        options = {"HttpTokens": "optional" if number == 7 else "required"}
        return {"Type": "AWS::EC2::Instance", "Properties": {"UserData": "x" * 950, "MetadataOptions": options}}

    text = json.dumps({"Resources": {f"R{number}": one(number) for number in range(6_000)}}, indent=1)
    assert len(text) > 6_000_000
    (tmp_path / f"large.{form}").write_text(text)
    assert command(["check", str(tmp_path)], NOTHING) == 1
    assert "check: 1 file checked, 1 finding\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("scan", "--role", "hunter2\udcff"),
        ("scan", "--db", "postgresql+psycopg://me:hunter2\udcff@host/name"),
        ("report", "--scan", "hunter2\udcff"),
        ("explain", "hunter2\udcff"),
        ("policy", "check", "hunter2\udcff", "--json"),
        ("watch", "--webhook", "https://host/hunter2\udcff"),
    ],
)
def test_words_that_are_not_utf_8_are_refused_and_not_repeated(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(words, NOTHING) == 2
    said = capsys.readouterr().err
    assert said.startswith("error[usage]: what was given as `")
    assert "hunter2" not in said, "it may be a URL with a password"


def test_a_file_may_have_a_name_of_any_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad-\udcff.tf"
    file.write_text(TYPO)
    assert command(["check", str(file), "--json"], NOTHING) == 1
    (finding, *_) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["file"] == str(file)
    assert command(["check", str(file), "--sarif"], NOTHING) == 1
    assert "bad-%FF.tf" in capsys.readouterr().out
