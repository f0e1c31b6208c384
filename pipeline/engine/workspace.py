"""The layout of a workspace: the one folder that holds everything that the pipeline makes."""

import contextlib
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.environment import WORKSPACE
from stages.dataset import DatasetInfo
from stages.errors import PipelineError
from stages.job import RunFolder
from stages.sources import fingerprint
from stages.storage import is_url, open_folder

# Free space to leave besides the checkpoints, for all smaller files.
_SPARE_BYTES = 100 << 20


@dataclass(frozen=True)
class Workspace:
    """Paths below one root, always absolute."""

    root: Path

    @classmethod
    def open(cls, root: Path | None) -> "Workspace":
        """Open or create a workspace.

        Args:
            root: its folder; by default the one that $PIPELINE_WORKSPACE names, otherwise ``./workspace``.

        Raises:
            PipelineError: it cannot be written, or a submitted job names no persistent folder.
        """
        if root is None and WORKSPACE in os.environ:
            root = Path(os.environ[WORKSPACE])
        if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and (root is None or not root.is_absolute()):
            raise PipelineError(
                "a submitted job's own folder is deleted with the job",
                f"name an absolute --workspace on persistent storage, or set {WORKSPACE} for the cluster",
            )
        if root is not None and re.match(r"\w+:/", str(root)):
            raise PipelineError(
                f"the workspace {root} is a URL", "name a local or mounted folder as --workspace"
            )
        root = (root or Path("workspace")).absolute()
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not any(root.iterdir()):  # our own folder: none of it belongs in a repository
                (root / ".gitignore").write_text("*\n")
        except OSError as error:
            raise PipelineError(
                f"the workspace {root} cannot be written: {error.strerror}",
                "name another folder with --workspace",
            ) from error
        return cls(root)

    @property
    def sources(self) -> Path:
        """Archives that the project generates itself."""
        return self.root / "sources"

    @property
    def report(self) -> Path:
        """The timeline and the report."""
        return self.root / "report"

    @property
    def scratch(self) -> Path:
        """What a launcher writes while it runs a sweep or a search."""
        return self.root / "sweeps"

    def search(self, name: str) -> Path:
        """The folder of a search for the best learning rate of a run."""
        return self.root / "searches" / name

    @property
    def tracking_uri(self) -> str:
        """The default tracking store: a file in the workspace."""
        return f"sqlite:///{self._database}"

    @property
    def has_runs(self) -> bool:
        """Whether something was recorded here."""
        return self._database.is_file()

    @property
    def _database(self) -> Path:
        return self.root / "mlflow.db"

    def check_runs(self) -> None:
        """Refuse a workspace in which nothing was recorded.

        Raises:
            PipelineError: nothing was.
        """
        if not self.has_runs:
            raise PipelineError(
                f"{self.root} has no runs yet", "run `make demo` first, or name another --workspace"
            )

    @property
    def artifacts(self) -> Path:
        """Artifacts of the default tracking store."""
        return self.root / "mlartifacts"

    def check_room(self, needed: int) -> None:
        """Refuse runs whose checkpoints do not fit on the disk.

        Args:
            needed: bytes.

        Raises:
            PipelineError: there is too little space.
        """
        free = shutil.disk_usage(self.root).free
        if free < needed + _SPARE_BYTES:
            raise PipelineError(
                f"the runs need {needed / 2**30:.1f} GiB for checkpoints, but the workspace's disk "
                f"has only {free / 2**30:.1f} GiB free",
                "free some space, or name a --workspace on a larger disk",
            )

    def dataset(self, source: str) -> Path:
        """Where the shards of a source, a folder or a URL, belong: under its name and a fingerprint."""
        name = open_folder(source).name if is_url(source) else Path(source).resolve().name
        return self._dataset(name, fingerprint(source))

    def mirror(self, info: DatasetInfo) -> Path:
        """Where shards of a finished data set at a URL are kept while they are needed."""
        return self._dataset(info.name, info.manifest_sha256[:12])

    def _dataset(self, name: str, identity: str) -> Path:
        return self.root / "datasets" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{identity}"

    def run(self, name: str) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.root / "runs" / name)

    @contextlib.contextmanager
    def lock(self, what: str, *, wait: bool = False) -> Iterator[None]:
        """Hold an exclusive lock on ``what``; the system releases it however the process ends.

        Raises:
            PipelineError: another process holds it, and ``wait`` is false.
        """
        path = self.root / "locks" / what
        path.parent.mkdir(exist_ok=True)
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                file.seek(0)
                raise PipelineError(
                    f"{what} is being worked on by {file.read().strip() or 'another process'}",
                    "wait for it or stop it, then rerun the same command",
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield
