"""Check a data set: hashes, counts, the order of labels, and whether every image decodes.

python -m pipeline.verify DEST
"""

import functools
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from pipeline.engine import command_line as cli
from pipeline.shard import runner
from stages.errors import PipelineError


@dataclass(frozen=True)
class Options:
    """Check a data set that `pipeline.shard` made: hashes of shards and samples, counts, the order of
    labels, objects and captions, and whether every image decodes. Says of everything that is wrong what to
    do about it."""

    dataset: Annotated[str, tyro.conf.Positional]
    """The data set's folder (path or URL)."""
    launcher: Literal["ray", "inline"] = "inline"
    """Check the shards in processes of this machine, or as Ray tasks."""
    workers: int | None = None
    """Shards checked at a time (default: one a CPU)."""
    decode: bool = True
    """Decode every image, which is what takes long."""
    debug: bool = False
    """Show the stack trace of an error."""


def _verify(options: Options) -> None:
    # Here and not above: --help needs neither Arrow nor numpy.
    from pipeline.engine.progress import Progress
    from stages.shard.verify import verify
    from stages.storage import open_folder

    folder = open_folder(options.dataset)  # for messages: a URL as given may carry credentials
    with Progress() as progress, runner(options.launcher, options.workers) as run:
        findings = verify(
            options.dataset,
            decode=options.decode,
            run=run,
            progress=functools.partial(progress.count, "verify"),
            note=functools.partial(progress.line, "noted"),
        )
        for finding in findings:
            progress.line("found", str(finding))
        if findings:
            raise PipelineError(
                f"{folder} has {len(findings):,} fault{'s' * (len(findings) > 1)}",
                "do for each what stands below it, then verify again",
            )
        progress.line("verify", f"{folder} is whole")


if __name__ == "__main__":
    cli.main(Options, _verify)
