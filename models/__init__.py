"""The networks of the history, exactly as published. Pure torch; one file per paper."""

from models import (  # importing a paper's module registers its networks
    alexnet,
    googlenet,
    inception,
    lenet5,
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
from models.features import features
from models.fidelity import Fidelity, fidelity_rows
from models.registry import create, create_on_meta, knobs_of, names
from models.weights import Provenance, load_network, load_weights, read_provenance, save_weights

__all__ = [
    "Fidelity",
    "Layer",
    "LayerTable",
    "Provenance",
    "alexnet",
    "create",
    "create_on_meta",
    "describe",
    "features",
    "fidelity_rows",
    "googlenet",
    "inception",
    "knobs_of",
    "layer_table",
    "lenet5",
    "load_network",
    "load_weights",
    "names",
    "preact_resnet",
    "read_provenance",
    "resnet",
    "resnet_cifar",
    "resnext",
    "save_weights",
    "senet",
    "vgg",
    "wide_resnet",
    "zfnet",
]
