"""The networks of the history, exactly as published. Pure torch; one file per paper."""

from models import (  # importing a paper's module registers its networks
    alexnet,
    googlenet,
    preact_resnet,
    resnet,
    resnet_cifar,
    resnext,
    senet,
    vgg,
    wide_resnet,
    zfnet,
)
from models.describe import Layer, LayerTable, describe, layer_table
from models.fidelity import Fidelity, fidelity_rows
from models.registry import create, knobs_of, names

__all__ = [
    "Fidelity",
    "Layer",
    "LayerTable",
    "alexnet",
    "create",
    "describe",
    "fidelity_rows",
    "googlenet",
    "knobs_of",
    "layer_table",
    "names",
    "preact_resnet",
    "resnet",
    "resnet_cifar",
    "resnext",
    "senet",
    "vgg",
    "wide_resnet",
    "zfnet",
]
