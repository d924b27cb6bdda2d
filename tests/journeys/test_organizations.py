"""The guide's rehearsal of a declarative policy, as it stands there, with the AWS CLI."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"


def test_the_guide_s_rehearsal_of_a_declarative_policy(start_local: Callable[..., Any]) -> None:
    [script] = [block for block in re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "report" in block]
    shell = start_local("--accounts", "3", "--instances", "0", "--seed", "5")
    path = f"{Path(sys.executable).parent}:{shell.env['PATH']}"
    done = shell.run("bash", "-e", "-c", script, PATH=path, AWS_PAGER="")
    assert done.returncode == 0, done.stderr
    assert '"HttpTokens": "required"' in done.stdout
    assert '"ManagedBy": "declarative-policy"' in done.stdout
    assert re.search(r"^instance_metadata_defaults\.http_tokens\s+required\s+0$", done.stdout, re.MULTILINE)
