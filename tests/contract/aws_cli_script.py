"""Plays scripts of `aws` commands: the real AWS CLI's driver in one process, as starting it 250 times takes minutes.

Called as a program with the paths of scripts; prints a JSON object for each command. A script is read like a terminal:

    # A comment.
    aws ec2 create-volume --size 8 \\
        --availability-zone {zone}
        let volume = VolumeId
        expect State == 'creating'
    AWS_ACCESS_KEY_ID={key} aws sts get-caller-identity
        fails InvalidClientTokenId

A command runs to its end with exit code 0, or with AWS's error code that `fails` names. `let` takes a JMESPath of the
answer into a name that later lines of the same script use in braces; `expect` is a JMESPath that must be true. Both see
what the CLI printed as JSON (as text, `Text`); for a refusal it is `{Error: {Code, Message, Words}}`. `{yesterday}` and
`{tomorrow}` are there from the start: from when to when everything of the session happens; `{endpoint}` is for
`--endpoint-url`, as this CLI asks some services elsewhere whatever AWS_ENDPOINT_URL says.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.hooks
import jmespath
from awscli.clidriver import create_clidriver
from botocore.loaders import create_loader

REFUSED = 255
"""The exit code of AWS CLI 1 when AWS refused."""


@dataclass
class Step:
    """A command and what is written under it."""

    line: int
    command: str
    fails: str | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)


class Terminal:
    """Runs commands, one after another, as in one terminal."""

    def __init__(self) -> None:
        self.models = create_loader(os.environ["AWS_DATA_PATH"])  # awscli's own, put there when it is imported
        self.called: list[tuple[str, str, int]] = []

    def run(self, command: str) -> tuple[int, str, str]:
        """The exit code, standard output and standard error of a command line; variables may be set before `aws`."""
        words = shlex.split(command)
        start = words.index("aws")
        before = dict(os.environ)
        os.environ.update(word.split("=", 1) for word in words[:start])
        out, err = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code = self._driver().main(words[start + 1 :])
                except SystemExit as left:
                    code = left.code if isinstance(left.code, int) else 1
        finally:
            os.environ.clear()
            os.environ.update(before)
        return code, out.getvalue(), err.getvalue()

    def _driver(self) -> Any:
        # A new one for each command, as in a terminal: it keeps the credentials it found and the --region it was told.
        driver = create_clidriver()
        driver.session.register_component("data_loader", self.models)
        driver.session.register("after-call", self._after_call)
        return driver

    def _after_call(self, model: Any, http_response: Any, **_: Any) -> None:
        self.called.append((model.service_model.signing_name, model.name, http_response.status_code))


def parsed(text: str) -> Iterator[Step]:
    """The steps of a script. Raises ValueError with the line that is not understood."""
    step: Step | None = None
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        while line.endswith("\\"):
            line = f"{line[:-1].rstrip()} {next(lines)[1].strip()}"
        word, _, rest = line.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        if not line.startswith(" "):
            if step is not None:
                yield step
            step = Step(number, line)
        elif step is not None and word == "fails":
            step.fails = rest
        elif step is not None and word in ("let", "expect"):
            step.notes.append((word, rest))
        else:
            raise ValueError(f"line {number} is neither a command nor fails, let or expect under one: {line}")
    if step is not None:
        yield step


def played(step: Step, terminal: Terminal, names: dict[str, str]) -> dict[str, Any]:
    """Run a step; `names` are what `let` took so far. `problem` says in words what was not as the script says."""
    terminal.called.clear()
    problem = None
    command = filled(step.command, names)
    code, out, err = terminal.run(command)
    answer = answer_of(out, err)
    refusal = answer.get("Error", {}).get("Code") if code == REFUSED and isinstance(answer, dict) else None
    if (code, refusal) != ((0, None) if step.fails is None else (REFUSED, step.fails)):
        problem = f"exit code {code}, expected {step.fails or 0}: {err.strip() or out.strip()}"
    for word, rest in step.notes if problem is None else ():
        name, equals, expression = rest.partition("=") if word == "let" else ("", "", rest)
        found = jmespath.search(filled(expression.strip(), names), answer)
        if equals and isinstance(found, (str, int)):
            names[name.strip()] = str(found)
        elif found is not True:
            problem = f"{word} {rest}: is {json.dumps(found)} in {json.dumps(answer)}"
            break
    return {"line": step.line, "command": command, "problem": problem, "called": list(terminal.called)}


def filled(text: str, names: dict[str, str]) -> str:
    """Text with `{name}` replaced by what is known; other braces are JSON's."""
    return re.sub(r"\{([a-z_0-9]+)\}", lambda match: names.get(match[1], match[0]), text)


def answer_of(out: str, err: str) -> Any:
    """What `let` and `expect` see."""
    if refusal := re.search(r"An error occurred \((\S+)\) when calling .*? operation.*?: (.*)", err, re.DOTALL):
        message = refusal[2].strip()
        return {"Error": {"Code": refusal[1], "Message": message, "Words": message.split()}}
    try:
        return json.loads(out or "{}")
    except ValueError:
        return {"Text": out.strip()}


def day(distance: int) -> str:
    """The midnight of a day before or after today, as AWS writes it."""
    return f"{datetime.now(UTC).date() + timedelta(days=distance)}T00:00:00Z"


def remember() -> None:
    """What botocore asks for each of 400 event handlers of a new driver, again and again, is worked out once."""
    botocore.hooks.accepts_kwargs = functools.cache(botocore.hooks.accepts_kwargs)
    alias, aliases = botocore.hooks.EventAliaser._alias_event_name, dict[str, str]()

    def remembered(self: Any, name: str) -> str:
        if name not in aliases:
            aliases[name] = alias(self, name)
        return aliases[name]

    botocore.hooks.EventAliaser._alias_event_name = remembered


def main(paths: list[str]) -> None:
    """Play scripts in order, in one terminal. A script ends at its first problem: what follows builds on it."""
    remember()
    gc.set_threshold(200_000)  # each driver is many small objects: half of the time went into looking at them
    terminal = Terminal()
    for path in map(Path, paths):
        names = {"yesterday": day(-1), "tomorrow": day(2), "endpoint": os.environ["AWS_ENDPOINT_URL"]}
        for step in parsed(path.read_text()):
            result = played(step, terminal, names)
            print(json.dumps({"script": path.stem, **result}), flush=True)
            if result["problem"] is not None:
                break


if __name__ == "__main__":
    main(sys.argv[1:])
