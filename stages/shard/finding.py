"""What `stages.shard.verify` finds, and what can be done about it."""

from dataclasses import dataclass

MAKE_AGAIN = (
    "delete the data set's folder and make it again with `python -m pipeline.shard SRC DEST`"
)
MAKE_SHARD = (
    "delete the shard and run the `python -m pipeline.shard SRC DEST` that made the data set: "
    "only what is missing is made"
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        file: name in the data set's folder.
        problem: what is wrong with it.
        fix: what to do.
    """

    file: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}: {self.problem}\n  fix: {self.fix}"
