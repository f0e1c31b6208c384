"""The networks of the history, exactly as published. Pure torch; one file per paper."""

from models import alexnet as _alexnet  # noqa: F401  (registers its networks)
from models.registry import create, names

__all__ = ["create", "names"]
