"""Open MLflow's UI on loopback with the workspace's runs in it.

python -m pipeline.dashboard
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.command_line import main


@dataclass(frozen=True)
class Options:
    """Open MLflow's UI on loopback with the workspace's runs in it; Ctrl-C stops it."""

    workspace: Path | None = None
    """Where everything is kept (default: $PIPELINE_WORKSPACE, else ./workspace)."""
    port: int = 5000
    """TCP port on 127.0.0.1."""


def _serve(options: Options) -> None:
    # Here and not above: --help needs no Arrow.
    from pipeline.engine.workspace import Workspace

    workspace = Workspace.open(options.workspace)
    workspace.check_runs()
    print(f"MLflow: http://127.0.0.1:{options.port}/#/experiments (Ctrl-C stops it)", flush=True)
    os.environ |= {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--host", "127.0.0.1", "--port", str(options.port), "--workers", "1"]
    command += ["--backend-store-uri", workspace.tracking_uri]
    command += ["--artifacts-destination", str(workspace.artifacts)]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main(Options, _serve)
