"""MLflow's client, with one-sentence errors that contain no password."""

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from stages.errors import PipelineError

SETTINGS = {
    # A run must not hang for minutes on a server that is down: its records are in the journal.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # no log lines about database tables
}


def apply_settings() -> None:
    """Set MLflow's environment variables, which it reads on import; those the user has set stay."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


class Client:
    """MLflow's client; each error becomes one sentence, without the password in the URI."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client: Any = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException

            try:
                if self._client is None:
                    self._client = MlflowClient(self._uri)
                return getattr(self._client, name)(*arguments, **options)
            except (MlflowException, OSError, ImportError) as error:
                reason = without_secrets(str(error), self._uri).splitlines()[0][:200]
                raise PipelineError(
                    f"the tracking store {without_secrets(self._uri)} cannot be reached: {reason}",
                    "start the MLflow server at that address, or omit --tracking-uri to record in the "
                    "workspace; the results are kept, and rerunning the same command records them",
                ) from error

        return call


def without_secrets(text: str, uri: str | None = None) -> str:
    """A text, such as the URI itself, without the user, password and query that ``uri`` may contain."""
    parts = urlsplit(uri or text)
    for secret in (f"{parts.netloc.rpartition('@')[0]}@", f"?{parts.query}"):
        if len(secret) > 1:
            text = text.replace(secret, "")
    return text
