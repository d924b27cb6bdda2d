"""Who serves metadata, or something of its size: ours, nginx, a Starlette app, amazon-ec2-metadata-mock.

Each is one process on the server's core and closes the connection after its answer.
"""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.report import NotMeasured
from bench.servers import HOST, ServerFailed, client_env, free_port, imdsctl, running

ROLE = "web"
CREDENTIALS = f"/latest/meta-data/iam/security-credentials/{ROLE}"
TOKEN = "/latest/api/token"
V1_GET, V2_GET, PUT = "v1 GET", "v2 GET", "PUT"
MOCK_NAMES = ("ec2-metadata-mock", "amazon-ec2-metadata-mock")
STARTING = (ServerFailed, OSError)

HEADERS = f"Host: {HOST}\r\nUser-Agent: bench\r\nAccept: */*\r\nConnection: close\r\n"
TTL = "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and how many bytes the body of its answer has."""

    request: str
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Contender:
    """A running server, with what it is asked for each of V1_GET, V2_GET and PUT."""

    pid: int
    port: int
    asked: dict[str, Asked]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The bytes of our answers' bodies: the others serve as many."""

    credentials: int
    token: int


@contextmanager
def ours(directory: Path, core: int) -> Iterator[Contender]:
    """`imdsctl imds serve` with a role. Raises ServerFailed."""
    port = free_port()
    command = imdsctl("imds", "serve", "--bind", f"{HOST}:{port}", "--role", ROLE)
    env = client_env(directory)
    with running("imdsctl imds serve", command, env=env, port=port, core=core, log=directory / "ours.log") as (pid, _):
        yield Contender(pid, port, _metadata(port, CREDENTIALS))


@contextmanager
def mock(directory: Path, core: int) -> Iterator[Contender]:
    """amazon-ec2-metadata-mock, if it is installed. Raises NotMeasured, ServerFailed."""
    binary = next((found for name in MOCK_NAMES if (found := shutil.which(name))), None)
    if binary is None:
        raise NotMeasured(f"none of {', '.join(MOCK_NAMES)} is on the PATH")
    port = free_port()
    command = [binary, "--hostname", HOST, "--port", str(port)]
    env, log = client_env(directory), directory / "mock.log"
    with running("amazon-ec2-metadata-mock", command, env=env, port=port, core=core, log=log) as (pid, _):
        yield Contender(pid, port, _metadata(port, "/latest/meta-data/iam/security-credentials/baskinc-role"))


@contextmanager
def nginx(directory: Path, core: int, sizes: Sizes) -> Iterator[Contender]:
    """nginx, one process, with static files of our sizes. Raises NotMeasured, ServerFailed."""
    binary = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if binary is None:
        raise NotMeasured("there is no nginx here (Debian: apt-get install nginx-light)")
    port = free_port()
    home = directory / "nginx"
    home.mkdir()
    (home / "credentials").write_bytes(b"x" * sizes.credentials)
    (home / "token").write_bytes(b"x" * sizes.token)
    temporary = "\n".join(f"{name}_temp_path {home};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (home / "nginx.conf").write_text(f"""
daemon off; master_process off; pid {home}/pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_timeout 0; default_type text/plain;
  {temporary}
  server {{ listen {HOST}:{port} backlog=4096; root {home}; }}
}}
""")
    command = [binary, "-p", str(home), "-c", str(home / "nginx.conf")]
    env, log = client_env(directory), directory / "nginx.log"
    with running("nginx", command, env=env, port=port, core=core, log=log) as (pid, _):
        file = Asked(f"GET /credentials HTTP/1.1\r\n{HEADERS}\r\n", sizes.credentials)
        token = Asked(f"GET /token HTTP/1.1\r\n{HEADERS}\r\n", sizes.token)
        yield Contender(pid, port, {V1_GET: file, V2_GET: file, PUT: token})


@contextmanager
def starlette(python: Path | None, directory: Path, core: int, sizes: Sizes) -> Iterator[Contender]:
    """A Starlette app of constant answers under uvicorn. Raises NotMeasured, ServerFailed."""
    if python is None or not python.exists():
        raise NotMeasured("no interpreter that has it (--peers-python)")
    (directory / "constant_app.py").write_text(f"""
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def credentials(request):
    return Response("x" * {sizes.credentials}, media_type="text/plain")

async def token(request):
    return Response("x" * {sizes.token}, media_type="text/plain")

app = Starlette(routes=[Route("{CREDENTIALS}", credentials), Route("{TOKEN}", token, methods=["PUT"])])
""")
    port = free_port()
    command = [str(python), "-m", "uvicorn", "constant_app:app", "--app-dir", str(directory), "--host", HOST]
    command += ["--port", str(port), "--log-level", "warning", "--no-access-log", "--loop", "uvloop"]
    command += ["--http", "httptools", "--backlog", "4096"]
    env, log = client_env(directory), directory / "starlette.log"
    with running("Starlette under uvicorn", command, env=env, port=port, core=core, log=log) as (pid, _):
        asked = {
            V1_GET: Asked(f"GET {CREDENTIALS} HTTP/1.1\r\n{HEADERS}\r\n", sizes.credentials),
            V2_GET: Asked(f"GET {CREDENTIALS} HTTP/1.1\r\n{HEADERS}{_with(56 * 'A')}\r\n", sizes.credentials),
            PUT: Asked(f"PUT {TOKEN} HTTP/1.1\r\n{HEADERS}{TTL}\r\n", sizes.token),
        }
        yield Contender(pid, port, asked)


def contenders(
    python: Path | None, directory: Path, core: int, sizes: Sizes
) -> dict[str, Callable[[], AbstractContextManager[Contender]]]:
    """Everybody but us, by name."""
    return {
        "nginx": lambda: nginx(directory, core, sizes),
        "Starlette": lambda: starlette(python, directory, core, sizes),
        "amazon-ec2-metadata-mock": lambda: mock(directory, core),
    }


def _metadata(port: int, path: str) -> dict[str, Asked]:
    """What a metadata service is asked, with a token of it. Raises ServerFailed."""
    token = _fetched(port, TOKEN, "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"})
    credentials = _fetched(port, path, "GET", {"X-aws-ec2-metadata-token": token.decode()})
    return {
        V1_GET: Asked(f"GET {path} HTTP/1.1\r\n{HEADERS}\r\n", len(credentials)),
        V2_GET: Asked(f"GET {path} HTTP/1.1\r\n{HEADERS}{_with(token.decode())}\r\n", len(credentials)),
        PUT: Asked(f"PUT {TOKEN} HTTP/1.1\r\n{HEADERS}{TTL}\r\n", len(token)),
    }


def _with(token: str) -> str:
    return f"X-aws-ec2-metadata-token: {token}\r\n"


def _fetched(port: int, path: str, method: str, headers: dict[str, str]) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", method=method, headers=headers)
    try:
        with opener.open(request, timeout=10) as answer:
            return bytes(answer.read())
    except OSError as error:
        raise ServerFailed(f"{method} {path}: {error}") from None
