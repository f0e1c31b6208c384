"""How faithful a network is to its paper, element by element, as data for the command line and the report."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["same", "deviates", "not stated"]


@dataclass(frozen=True)
class Fidelity:
    """One element of a paper's network beside ours.

    Attributes:
        element: what is compared, e.g. ``"local response normalisation"``.
        status: ``same``, ``deviates`` (then `note` says why) or ``not stated`` (the paper is silent;
            `note` says what we chose).
        published: what the paper or the authors' code has, with its numbers.
        source: section, table or file.
        note: what we do and why, where it is not simply the same.
    """

    element: str
    status: Status
    published: str
    source: str
    note: str = ""
