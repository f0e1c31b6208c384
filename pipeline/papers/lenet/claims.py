"""1998: what LeCun, Bottou, Bengio and Haffner claim about LeNet-5."""

from stages.claim import Arm, Claim, PublishedEffect, everywhere
from stages.tasks.classification.recipe import CrossEntropy

_TEST = "MNIST test"
_LENET5 = Arm("LeNet-5")

CLAIMS = (
    Claim(
        paper="lenet",
        id="convolution",
        statement="Local receptive fields, shared weights and sub-sampling lower the error below that of a "
        "fully connected net with four times the parameters.",
        source="section III.C, Fig. 9",
        with_it=_LENET5,
        without=Arm(
            "300-100 hidden units",
            base={"paper": "fully_connected", "mini": "fully_connected", "toy": "fully_connected"},
        ),
        published=(PublishedEffect(2.10, _TEST, "whole digit", "section III.C, Fig. 9"),),
    ),
    Claim(
        paper="lenet",
        id="map_criterion",
        statement="The MAP criterion, with its rubbish class, lowers the error below that of the same net "
        "trained with cross-entropy.",
        source="section II.C",
        with_it=_LENET5,
        without=Arm("cross-entropy", changes={"loss": CrossEntropy()}),
    ),
    Claim(
        paper="lenet",
        id="distortions",
        statement="Distorted copies of the digits lower the error.",
        source="section III.C",
        published=(PublishedEffect(0.15, _TEST, "whole digit", "section III.C, Fig. 9"),),
        not_comparable=everywhere("distortions of digits are not implemented here"),
    ),
)
