"""Start or join a Ray cluster: the one at RAY_ADDRESS, or a private one for the duration of the command."""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import environment
from stages.errors import PipelineError

# Shards are read by the workers themselves, so the object store holds next to nothing. Ray needs at
# least 75 MiB.
OBJECT_STORE_BYTES = 200_000_000


@dataclass(frozen=True)
class Resources:
    """What each machine of a cluster has: (CPUs, GPUs)."""

    nodes: tuple[tuple[int, int], ...]

    @property
    def cpus(self) -> int:
        """CPUs of all machines."""
        return sum(cpus for cpus, _ in self.nodes)

    @property
    def gpus(self) -> int:
        """GPUs of all machines."""
        return sum(gpus for _, gpus in self.nodes)

    def room(self, cpus: int, *, gpus: bool = True) -> int:
        """How many workers with ``cpus`` CPUs each fit.

        A worker runs on one machine, so CPUs left over on two machines do not add up.

        Args:
            cpus: CPUs of each worker.
            gpus: whether each also takes a GPU, if the cluster has any.
        """
        if gpus and self.gpus:
            return sum(min(have // cpus, free) for have, free in self.nodes)
        return sum(have // cpus for have, _ in self.nodes)


@contextlib.contextmanager
def session() -> Iterator[Resources]:
    """Connect to Ray and disconnect at the end.

    Inside a submitted job, or with RAY_ADDRESS set, that cluster is used. Otherwise one is started on
    this machine, with its own token and its dashboard on loopback, and stopped with the command. While it
    runs, this process's environment points to it; afterwards all variables are restored, including those
    that something else has changed in the meantime.

    Raises:
        PipelineError: the cluster cannot be reached, or there is too little shared memory for one.
    """
    environment.prepare()
    address = os.environ.get("RAY_ADDRESS")
    with contextlib.ExitStack() as stack:
        if address:
            _connect(address)
        else:
            _start(stack)
        import ray

        stack.callback(ray.shutdown)
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield Resources(tuple((int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in alive))


def _connect(address: str) -> None:
    fix = "start one with `make ray` and follow what it prints, or unset RAY_ADDRESS to use a private one"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != "auto" and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise PipelineError(
                f"no Ray cluster answers at RAY_ADDRESS={address}: {error}", fix
            ) from error
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise PipelineError(
            f"the Ray cluster at RAY_ADDRESS={address} refused the connection: {first}", fix
        ) from error


def _start(stack: contextlib.ExitStack) -> None:
    shared_memory = Path("/dev/shm")
    if (
        shared_memory.is_dir()
        and (free := shutil.disk_usage(shared_memory).free) < OBJECT_STORE_BYTES
    ):
        raise PipelineError(
            f"/dev/shm has {free >> 20} MiB free, but Ray needs {OBJECT_STORE_BYTES >> 20} MiB",
            "enlarge it (in a container: --shm-size=1g), or use --launcher inline",
        )
    folder = tempfile.mkdtemp(
        prefix="ray-"
    )  # private: Ray makes its own folders in it world-writable
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    port = environment.free_port()
    token = os.environ.get("RAY_AUTH_TOKEN") or environment.new_token()
    stack.callback(_restore_environment, dict(os.environ))
    # The workers inherit these. Without the address, what cleans up after a training would not know
    # which of several clusters on a machine is its own.
    os.environ |= {
        "RAY_AUTH_TOKEN": token,
        "RAY_GCS_SERVER_PORT": str(port),
        "RAY_ADDRESS": f"{_own_address()}:{port}",
    }
    import ray

    ray.init(
        address="local",
        include_dashboard=True,  # Ray Train's cleanup needs its state service
        dashboard_host="127.0.0.1",
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="warning",
        _temp_dir=folder,
    )


def _restore_environment(previous: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(previous)


def _own_address() -> str:
    import ray

    return str(ray.util.get_node_ip_address())
