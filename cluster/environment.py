"""Environment variables that Ray and the numerical libraries read on their first import.

Every value here avoids a problem that actually occurred: see the comment next to it. A value that the user
has set stays.
"""

import os
import secrets
import socket
from collections.abc import Mapping

# Where a job on a cluster finds its workspace: the job's own folder is a temporary copy of the code.
WORKSPACE = "PIPELINE_WORKSPACE"

# Threads that wait for each other sleep. Spinning, OpenMP's default, made steps up to twenty times slower
# as soon as anything else used the same cores.
THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}

SETTINGS = {
    # By default a new cluster turns token authentication on and leaves a token file in the home folder,
    # which the next head then uses but the job command line does not.
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Under `uv run`, Ray would build its own virtual environment for each session.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Seconds between the Train controller's checks of its workers; the default of 2 delays every exit.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
    # Workers keep the driver's folder, so that relative paths mean the same everywhere.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Tune's newer console output prints its configuration even if set to be quiet.
    "RAY_AIR_NEW_OUTPUT": "0",
    # When all cores are training, Tune's own work is slow, and Tune would warn about it each time.
    "TUNE_WARN_THRESHOLD_S": "60",
    **THREADS,
    # A shard is data: WebDataset must not run code contained in it.
    "WDS_SECURE": "1",
    "WDS_PYTORCH_WEIGHTS_ONLY": "1",
}


def prepare(settings: Mapping[str, str] = SETTINGS) -> None:
    """Set what is not set yet. Call it before the first import of what reads the variables."""
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def new_token() -> str:
    """A secret for a new cluster; whoever holds it can run code there."""
    return secrets.token_hex(32)


def free_port() -> int:
    """A TCP port that nothing listens on at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
