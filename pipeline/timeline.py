"""Draw the timeline and write the report, from the tracking store alone.

python -m pipeline.timeline
"""

from dataclasses import dataclass, field

from tyro.conf import OmitArgPrefixes

from pipeline.engine.command_line import Kept, main


@dataclass(frozen=True)
class Options:
    """Draw the timeline and write the report, from the tracking store alone."""

    kept: OmitArgPrefixes[Kept] = field(default_factory=Kept)


def _draw(options: Options) -> None:
    # Here and not above: --help needs neither Arrow nor MLflow.
    from pipeline.engine.workbench import workbench_of
    from pipeline.flows.report import draw

    with workbench_of(options.kept) as bench:
        if options.kept.tracking_uri is None:
            bench.workspace.check_runs()
        draw(bench.workspace, bench.tracker, bench.progress)


if __name__ == "__main__":
    main(Options, _draw)
