"""A Ray head on this machine, for submitting jobs to: `make ray`.

Its dashboard and job server listen on loopback; its other ports cannot be bound to loopback in Ray, so
every request needs a token, which is new each time and kept in a private folder.
"""

import contextlib
import http.client
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from cluster import environment
from cluster.session import OBJECT_STORE_BYTES
from stages.errors import PipelineError, print_error

STATE = Path(".ray")
START_SECONDS = 120


@dataclass(frozen=True)
class Options:
    """Start a Ray head on this machine; Ctrl-C stops it."""

    workspace: Path = Path("workspace")
    """Folder where jobs keep everything."""
    dashboard_port: int = 8265
    """TCP port of the dashboard and the job server on 127.0.0.1."""
    num_cpus: int | None = None
    """CPUs to offer (default: all)."""


def main() -> None:
    """Run the command; exits with the head's status, or with 2 if it could not be started."""
    options = tyro.cli(Options, description=Options.__doc__)
    try:
        sys.exit(serve(options))
    except PipelineError as error:
        print_error(error)
        sys.exit(2)


def serve(options: Options) -> int:
    """Start the head, print how to use it, and wait until it exits or is interrupted.

    Returns:
        Its exit status.

    Raises:
        PipelineError: the port is in use, or the head does not start.
    """
    environment.prepare()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", options.dashboard_port))
        except OSError as error:
            raise PipelineError(
                f"port {options.dashboard_port} is in use, perhaps by another head",
                "stop that one, or choose another --dashboard-port",
            ) from error
    port = environment.free_port()
    folder = Path(
        tempfile.mkdtemp(prefix="ray-")
    )  # private and short: Ray's socket names have a limit
    values = _write_state(options, port)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(shutil.rmtree, STATE, ignore_errors=True)
        head = subprocess.Popen(
            _command(options, port, folder), env={**os.environ, **values}, stdout=subprocess.DEVNULL
        )
        stack.callback(_end, head)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: head.terminate())
        if not _ready(options.dashboard_port, head):
            raise PipelineError(
                "the Ray head did not start", "see what it printed above; is the port in use?"
            )
        print(
            f"Ray is ready: dashboard http://127.0.0.1:{options.dashboard_port}, GCS port {port}\n"
            f"In another terminal, in this folder:\n\n"
            f"  . {STATE}/env\n"
            f"  ray job submit --working-dir . -- python -m pipeline.run --year 2012\n\n"
            f"Jobs keep everything in {options.workspace.absolute()}. Ctrl-C stops the head.",
            flush=True,
        )
        return max(0, head.wait())


def _write_state(options: Options, port: int) -> dict[str, str]:
    """Write ``.ray/token`` and ``.ray/env``; returns the environment that head and clients share."""
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir(mode=0o700)
    token = STATE / "token"
    token.touch(mode=0o600)
    token.write_text(environment.new_token())
    binaries = Path(sys.executable).parent
    values = {
        **{name: os.environ[name] for name in environment.SETTINGS},
        "RAY_AUTH_TOKEN_PATH": str(token.absolute()),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{options.dashboard_port}",
        "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    (STATE / "env").write_text(
        "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
    )
    import ray

    # Jobs and workers inherit these from the head. Without the address, what cleans up after a
    # training would not know which of several clusters on a machine is its own.
    return {
        **values,
        "RAY_ADDRESS": f"{ray.util.get_node_ip_address()}:{port}",
        environment.WORKSPACE: str(options.workspace.absolute()),
    }


def _command(options: Options, port: int, folder: Path) -> list[str]:
    command = [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
    ]
    command += [
        "--port",
        str(port),
        "--temp-dir",
        str(folder),
        "--object-store-memory",
        str(OBJECT_STORE_BYTES),
    ]
    command += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(options.dashboard_port)]
    if options.num_cpus is not None:
        command += ["--num-cpus", str(options.num_cpus)]
    return command


def _ready(port: int, head: subprocess.Popen[bytes]) -> bool:
    """Wait for the dashboard; False if the head exits first or never responds."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and head.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/")
            if connection.getresponse().status == http.client.OK:
                return True
        time.sleep(0.5)
    return False


def _end(head: subprocess.Popen[bytes]) -> None:
    head.terminate()
    try:
        head.wait(30)
    except subprocess.TimeoutExpired:
        head.kill()


if __name__ == "__main__":
    main()
