"""The ledger of a tracking store."""

from collections.abc import Iterable
from functools import cache

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.papers import CLAIMS, PAPERS
from pipeline.tracking.store import Tracker
from stages.claim import Claim
from stages.errors import PipelineError
from stages.ledger.entries import Ledger, make_ledger
from stages.measurement import Measurement


def read_ledger(
    tracker: Tracker, measurements: Iterable[Measurement], claims: Iterable[Claim] = CLAIMS
) -> Ledger:
    """What became of the claims, from a store's measurements and the answers kept with them."""

    @cache
    def answers(measurement: Measurement) -> pa.Table | None:
        try:
            return pq.read_table(tracker.answers(measurement))
        except PipelineError:  # a server whose artifacts are not to be had from here
            return None

    return make_ledger(claims, PAPERS, measurements, answers, tracker.searches())
