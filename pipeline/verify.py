"""Check a data set: hashes, counts, the order of labels, and whether every image decodes.

python -m pipeline.verify DEST
"""

import functools
from dataclasses import dataclass
from typing import Annotated

import tyro

from pipeline.engine.command_line import LauncherName, check_workers, main
from stages.errors import PipelineError


@dataclass(frozen=True)
class Options:
    """Check a data set that `pipeline.shard` made: hashes of shards and samples, counts, the order of
    labels, objects and captions, and whether every image decodes. For every fault it says what to do."""

    dataset: Annotated[str, tyro.conf.Positional]
    """The data set's folder (path or URL)."""
    launcher: LauncherName = "inline"
    """Check the shards in processes of this machine, or as Ray tasks."""
    workers: int | None = None
    """Shards checked at a time (default: one per CPU)."""
    decode: bool = True
    """Decode every image, which takes most of the time."""


def _verify(options: Options) -> None:
    check_workers(options.workers)
    # Here and not above: --help needs neither Arrow nor numpy.
    from pipeline.engine.launchers import parallel_map
    from pipeline.engine.progress import Progress
    from stages.shard.verify import verify
    from stages.storage import open_folder

    folder = open_folder(options.dataset)  # for messages: a URL as given may carry credentials
    with Progress() as progress, parallel_map(options.launcher, options.workers) as pmap:
        findings = verify(
            options.dataset,
            decode=options.decode,
            pmap=pmap,
            progress=functools.partial(progress.count, "verify"),
            note=functools.partial(progress.line, "noted"),
        )
        for finding in findings:
            progress.line("found", str(finding))
        if findings:
            raise PipelineError(
                f"{folder} has {len(findings):,} fault{'s' * (len(findings) > 1)}",
                "follow the fix in each line above, then verify again",
            )
        progress.line("verify", f"{folder} is whole")


if __name__ == "__main__":
    main(Options, _verify)
