"""How faithful a network is to its paper, element by element, as data for whoever prints it."""

import sys
from dataclasses import dataclass
from typing import Literal

from models.registry import builder

Status = Literal["same", "deviates", "not stated"]


@dataclass(frozen=True)
class Fidelity:
    """One element of a paper's network compared with ours.

    Attributes:
        element: what is compared, e.g. ``"local response normalisation"``.
        status: ``same``, ``deviates`` (then `note` says why) or ``not stated`` (the paper is
            silent; `note` says what we chose).
        published: what the paper or the authors' code has, with its numbers.
        source: section, table or file.
        note: what we do and why, where it is not exactly the same.
        checked: how it is known, of what is the same; ``file.test`` names a test.
    """

    element: str
    status: Status
    published: str
    source: str
    note: str = ""
    checked: str = ""


def fidelity_rows(name: str) -> tuple[Fidelity, ...]:
    """How faithful ``name`` is to its paper: the rows of ``FIDELITY`` in the module that builds it.

    Raises:
        ValueError: no network has that name.
    """
    rows: dict[str, tuple[Fidelity, ...]] = sys.modules[builder(name).__module__].FIDELITY
    return rows[name]
