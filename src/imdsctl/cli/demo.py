"""`imdsctl demo`: the main job from the first command to the last, on a local AWS of its own.

Every step is the real command in a process of its own, with nothing of the user's AWS settings in reach.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.views.text import table_text

ACCOUNTS_MIN = 2
ABRIDGED_HEAD = 14
ABRIDGED_TAIL = 24
"""Lines shown of a longer answer, from its beginning and from its end."""


def command(
    accounts: int = typer.Option(14, "--accounts", min=ACCOUNTS_MIN, help="accounts of the organization"),
    instances: int = typer.Option(8, "--instances", min=0, help="instances in a Region, on average"),
    seed: int = typer.Option(2019, "--seed", help="another number makes another organization"),
    attack: bool = typer.Option(False, "--attack", help="steal a role's credentials, then see what refuses it"),
) -> None:
    """Watch an organization go from "IMDSv1 possible" to "IMDSv2 enforced", without an AWS account."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="imdsctl-demo-") as folder, _ended_politely():
        stage = Stage(Path(folder))
        try:
            if attack:
                from imdsctl.cli.demo_attack import play

                play(stage, seed)
            else:
                _play(stage, accounts, instances, seed)
        finally:
            stage.close()
    say(f"\nThe local AWS of this demo is stopped; it took {time.monotonic() - started:.0f} seconds.")
    me = _typed()
    say(
        "Try next:\n"
        f"  {me} local up --detach --accounts 12      # the same stage, yours to keep\n"
        f'  eval "$({me} local env)"                  # now boto3, the AWS CLI and imdsctl talk to it\n'
        "  aws ec2 get-instance-metadata-defaults    # if you have the AWS CLI\n"
        + (
            ""
            if attack
            else f"  {me} demo --attack                        # how a role is stolen, and what refuses it\n"
        )
        + f"  {me} explain --launch --region eu-west-1  # what would an instance get, and why?\n"
        f"  {me} scan                                 # with your own credentials instead: reads only"
    )


INTENT = """\
version = 1

# Three waves, the least important accounts first. What no wave before it took belongs to the last.
[[wave]]
name = "sandbox"
match = { ou = ["Sandbox", "Workloads/Dev"] }
soak = "1s"                       # where real people work: "24h", and rejected-calls-max = 0

[[wave]]
name = "shared"
match = { ou = ["Infrastructure", "Security"] }
no-v1-calls = "14d"               # not one call by IMDSv1 in two weeks, says CloudWatch
unknown-evidence = "allow"        # stopped instances have no datapoints

[[wave]]
name = "production"
no-v1-calls = "14d"
unknown-evidence = "allow"

[[exception]]
match = { resource = ["web-blue"] }
owner = "web"
reason = "a launch configuration that nothing uses; it goes with the old stack"
expires = 2099-12-31
"""
EXCEPTION = """\

[[exception]]
match = {{ resource = ["{instance}"] }}
owner = "backup team"
reason = "the vendor's agent speaks IMDSv1 only; version 5 is ordered"
expires = 2099-12-31
"""
AGENT = """\
import os, time, urllib.request

url = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"].rstrip("/") + "/latest/meta-data/instance-id"
while True:  # no token: IMDSv1
    print(urllib.request.urlopen(url, timeout=5).read().decode(), flush=True)
    time.sleep(0.2)
"""
EXIT_GATE = (0, 5)
"""How an apply may end whose gate may fail: see `imdsctl.cli.errors`."""


def _play(stage: Stage, accounts: int, instances: int, seed: int) -> None:
    # Everybody but one has updated their software: the generated history is without IMDSv1, and so are other services.
    stage.open(
        "--port", "0", "--accounts", str(accounts), "--instances", str(instances), "--seed", str(seed),
        "--v1-percent", "0",
    )  # fmt: skip

    say("\n# 1. Where does the organization stand? A scan only reads. (Other services' settings, which only they can")
    say("#    change, are right already: enforcement would wait for EKS, Elastic Beanstalk, EMR and Image Builder.)")
    before = stage.json("scan", "--no-services")
    stage.run_abridged("scan")  # the latest: from this one is planned

    say("\n# 2. What would an instance get that is launched here today, and why?")
    here = stage.env.get("AWS_REGION", "us-east-1")
    stage.run("explain", "--launch", "--region", here)

    legacy = _legacy_instance(before)
    if legacy:
        say(f"\n# 3. Somewhere an old agent runs: a real process that asks the metadata service of {legacy}")
        say("#    without a token.")
        stage.start_agent(legacy)
    say(
        "\n# 4. What is wanted, in waves with gates (imdsctl.toml), and what that takes (plan.json)."
        "\n#    Nothing is changed yet."
    )
    (stage.folder / "imdsctl.toml").write_text(INTENT)
    say("\n" + INTENT)
    stage.run_abridged("plan", "-o", "plan.json")

    say("\n# 5. Apply: what the plan says and nothing else; the old values are recorded first.")
    code = _apply(stage, "plan.json")
    if code:
        say(f"\n# The gate of the second wave held: CloudWatch has seen {legacy} use IMDSv1. What came before is done,")
        say("# the rest was not begun. Nothing broke. Its owner needs time: that goes into the register, with an end.")
        with (stage.folder / "imdsctl.toml").open("a") as file:
            file.write(EXCEPTION.format(instance=legacy))
        say(EXCEPTION.format(instance=legacy))
        say("# The first plan and its journal are the way back for what is done: the new plan is another file.")
        stage.run("scan", shown=False)
        stage.run_abridged("plan", "-o", "plan-2.json")
        _apply(stage, "plan-2.json")

    say("\n# 6. Verify: scan again; nothing left to plan and nothing unknown is the proof.")
    refused = sorted(each["subject"] for each in before["unknown"] if each["what"] == "account")
    if refused:
        stage.run_abridged("verify", allowed=(0, 1))
        say(
            f"\n# Account {', '.join(refused)} refuses our role, so nobody has looked inside. Unknown is not enforced,"
            "\n# and verify fails until its owner grants the role. To prove the rest, leave it out by name:"
        )
        stage.run_abridged("verify", "--exclude-accounts", ",".join(refused))
    else:
        stage.run_abridged("verify")
    stage.run("explain", "--launch", "--region", here, "--http-tokens", "optional")
    if legacy:
        stage.say_agent(legacy)

    say("\n# Before and after\n")
    say(before_and_after(before, stage.json("scan", "--no-services")))


def _apply(stage: Stage, plan: str) -> int:
    count = json.loads((stage.folder / plan).read_text())["count"]
    return stage.run("apply", plan, "--confirm", str(count), allowed=EXIT_GATE)


def _legacy_instance(scan: dict[str, Any]) -> str | None:
    """A running instance with optional tokens in an account of the second wave; None where the demo is too small."""
    units = {each["account_id"]: each["ou_path"] for each in scan["accounts"]}
    for target in scan["targets"]:
        if units[target["account_id"]].endswith(("/Infrastructure", "/Security")):
            for instance in target["instances"]:
                if instance["verdict"] == "exposed" and instance["state"] == "running":
                    return str(instance["instance_id"])
    return None


def before_and_after(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Two scans (`--json`) as one table: a line an account, what is exposed or unknown then and now."""
    rows = [["ACCOUNT", "", "REGIONS ENFORCED", "INSTANCES EXPOSED", "TEMPLATES EXPOSED", "VERDICT NOW"]]
    sums = [0] * 7
    refused = {each["subject"]: each["code"] for each in after["unknown"] if each["what"] == "account"}
    for account in after["accounts"]:
        number = account["account_id"]
        then, now = (_figures(scan, number) for scan in (before, after))
        if number in refused:
            rows.append([number, account["name"], "?", "?", "?", f"unknown ({refused[number]})"])
        elif now[0]:
            exposed = now[1] < now[0] or now[2] or now[3]
            verdict = "exposed" if exposed else "enforced"
            rows.append([number, account["name"], *_cells(then, now), verdict])
            sums = [total + figure for total, figure in zip(sums, (*now[:1], *then[1:], *now[1:]), strict=True)]
        else:
            rows.append([number, account["name"], "-", "-", "-", f"not entered ({account['state']})"])
    total = sums[0]
    rows.append(["all", "", *_cells((total, *sums[1:4]), (total, *sums[4:7])), ""])
    return table_text(rows)


def _figures(scan: dict[str, Any], account_id: str) -> tuple[int, int, int, int]:
    """Regions, Regions enforced, instances exposed, template versions exposed."""
    targets = [each for each in scan["targets"] if each["account_id"] == account_id]

    def exposed(part: str) -> int:
        return sum(each["verdict"] == "exposed" for target in targets for each in target[part])

    enforced = sum(each["default"]["verdict"] == "enforced" for each in targets)
    return len(targets), enforced, exposed("instances"), exposed("launch_templates")


def _cells(then: tuple[int, ...], now: tuple[int, ...]) -> list[str]:
    regions = f"{then[1]} -> {now[1]} of {now[0]}"
    return [regions, *(f"{earlier} -> {later}" for earlier, later in zip(then[2:], now[2:], strict=True))]


class Stage:
    """The demo's folder, environment and local AWS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # None of the user's AWS settings may leak in: this must not touch a real account.
        self.env = {name: value for name, value in os.environ.items() if not name.upper().startswith("AWS_")}
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            self.env.pop(name, None)
            self.env.pop(name.upper(), None)
        for name in ("XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            self.env[name] = str(folder / name.lower())
            Path(self.env[name]).mkdir(mode=0o700)
        self.env["AWS_CONFIG_FILE"] = self.env["AWS_SHARED_CREDENTIALS_FILE"] = str(folder / "no-aws-config")
        self.env["AWS_EC2_METADATA_DISABLED"] = "true"
        self.running = False
        self.namespaces = True
        self.agent: subprocess.Popen[str] | None = None

    def open(self, *arguments: str) -> None:
        """Start the local AWS and take its environment."""
        self.running = True
        self.run("local", "up", "--detach", *arguments)
        self.take()

    def take(self, *arguments: str) -> None:
        """Take the settings that `imdsctl local env` prints."""
        for line in self.output("local", "env", *arguments).splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            self.env[name] = shlex.split(value)[0] if value else ""

    def start_agent(self, instance: str) -> None:
        """Start the old agent as a process of its own, and wait until it has been answered."""
        script = self.folder / "old_agent.py"
        script.write_text(AGENT)
        env = dict(self.env)
        for line in self.output("local", "connect", instance).splitlines():
            name, equals, value = line.removeprefix("export ").partition("=")
            if equals:
                env[name] = shlex.split(value)[0]
        say(f'\n$ eval "$(imdsctl local connect {instance})"; python old_agent.py &\n\n{AGENT}')
        self.agent = subprocess.Popen([sys.executable, str(script)], env=env, stdout=subprocess.PIPE, text=True)
        assert self.agent.stdout is not None
        answer = self.agent.stdout.readline().strip()
        if answer != instance:
            raise _broken(("local", "connect", instance), self.agent.wait())
        say(f"{answer}    <- its first answer (process {self.agent.pid})")

    def say_agent(self, instance: str) -> None:
        """Whether the old agent still gets its answers."""
        assert self.agent is not None
        ended = self.agent.poll()
        how = "still gets its answers" if ended is None else f"has ended with {ended}"
        say(f"\n# The old agent on {instance} (process {self.agent.pid}) {how}: it is the one exception that is left.")

    def close(self) -> None:
        """End the local AWS and the old agent, however far the demo came."""
        if self.agent is not None:
            self.agent.kill()
            self.agent.communicate()
            self.agent = None
        if self.running:
            self.running = False
            self.run("local", "down", shown=False, allowed=(0, 1))

    def run(self, *arguments: str, shown: bool = True, allowed: tuple[int, ...] = (0,)) -> int:
        """One command of imdsctl, as a person would type it; its exit code, if it is an allowed one."""
        if shown:
            say(f"\n$ imdsctl {shlex.join(arguments)}")
        sink = None if shown else subprocess.DEVNULL
        code = self._finished(arguments, sink, sink).returncode
        if code not in allowed:
            raise _broken(arguments, code)
        return code

    def run_abridged(self, *arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
        """Like `run`, with the middle of a long answer left out."""
        say(f"\n$ imdsctl {shlex.join(arguments)}")
        done = self._finished(arguments, subprocess.PIPE)
        lines = done.stdout.splitlines()
        if len(lines) > ABRIDGED_HEAD + ABRIDGED_TAIL + 1:
            left_out = len(lines) - ABRIDGED_HEAD - ABRIDGED_TAIL
            lines[ABRIDGED_HEAD:-ABRIDGED_TAIL] = [f"  ... ({left_out} more lines)"]
        say("\n".join(lines))
        if done.returncode not in allowed:
            raise _broken(arguments, done.returncode)

    def output(self, *arguments: str, aws: bool = True) -> str:
        """What a command prints on stdout; without `aws` it sees no AWS settings, not even the stage's."""
        done = self._finished(arguments, subprocess.PIPE, aws=aws)
        if done.returncode:
            raise _broken(arguments, done.returncode)
        return done.stdout

    def _finished(
        self, arguments: Sequence[str], stdout: int | None, stderr: int | None = None, *, aws: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "imdsctl", *arguments]
        env = {name: value for name, value in self.env.items() if aws or not name.startswith("AWS_")}
        child = subprocess.Popen(command, env=env, cwd=self.folder, stdout=stdout, stderr=stderr, text=True)
        try:
            said, complained = child.communicate()
        except BaseException:
            # Not killed, as subprocess.run would: `local up --detach` has to take back the server that it began.
            child.send_signal(signal.SIGINT)
            child.wait()
            raise
        return subprocess.CompletedProcess(command, child.returncode, said, complained)

    def json(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        return json.loads(self.output(*arguments, "--json"))


def _broken(arguments: Sequence[str], code: int) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            "demo-failed",
            f"a step of the demo ended with exit code {code}",
            subject=f"imdsctl {shlex.join(arguments)}",
            hint="its own message stands above; the local AWS of the demo has been stopped",
        )
    )


@contextmanager
def _ended_politely() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that the local AWS is stopped and the folder removed."""

    def unwind(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _typed() -> str:
    """How a person has to type this program's name: a virtual environment need not be on PATH."""
    own = Path(sys.executable).with_name("imdsctl")
    found = shutil.which("imdsctl")
    if (found and Path(found) == own) or not own.exists():
        return "imdsctl"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


def say(text: str) -> None:
    print(text, flush=True)
