"""2016: the entry of Trimps-Soushen makes no claim that two training runs can test.

What the slides compare, the best net and the fusion, depends on nets and weights that were not published.
"""

from stages.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
