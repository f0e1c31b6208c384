"""2012: what Krizhevsky, Sutskever and Hinton claim, and what the logs of their nets say.

The numbers of nets (145, 147, ...) are those of the logs in computerhistory/AlexNet-Source-Code, ``layers/``.
"""

from dataclasses import replace

from stages.claim import Arm, Claim, PublishedEffect, effects, everywhere

_VAL, _TEST_2010 = "ILSVRC-2012 val", "ILSVRC-2010 test"
_TEN = "ten crops"
# Net 145, the published one: top-1 and top-5 error with ten crops.
_NET_145 = {_VAL: (40.664, 18.210), _TEST_2010: (37.473, 16.999)}

_AS_RUN = Arm("as run")

# Section 3.1 trains without regularisation "of any kind". The four layers are not specified.
_FOUR_LAYERS = Arm(
    "ReLU",
    knobs={
        "activation": "relu",
        "remove": ("conv3", "conv4", "fc6", "fc7"),
        "lrn": False,
        "dropout": 0.5,  # no layer is left that drops; the builder refuses another value
    },
    augmentation={"flip": False, "random_crop": False, "colour_noise": "none"},
    weight_decay=0.0,
    # Tanh took about 36 epochs in Fig. 1: 14,000 batches of 128 images. No drop of the rate is mentioned, and
    # a net that never starts to learn is an answer, too.
    changes={"epochs": 150, "start_steps": 0},
    constant_rate=True,
)


def _logs(dataset: str, net: str, errors: tuple[float, float]) -> tuple[PublishedEffect, ...]:
    """By how much, in the logs, net 145 is better than another net, whose (top-1, top-5) errors are given."""
    top1, top5 = (other - best for other, best in zip(errors, _NET_145[dataset], strict=True))
    source = f"logs of nets {net} and 145"
    return effects(dataset, _TEN, source, top1=top1, top5=top5, logged=True)


def _depth(layer: str) -> Claim:
    return Claim(
        paper="alexnet",
        id=f"depth_{layer}",
        statement=f"Without {layer} the error is higher.",
        source="sections 1 and 7",
        with_it=_AS_RUN,
        without=Arm(f"without {layer}", knobs={"remove": (layer,)}),
        published=()
        if layer == "conv2"
        else (PublishedEffect(2.0, _VAL, "not stated", "section 7", printed="about 2"),),
    )


CLAIMS = (
    Claim(
        paper="alexnet",
        id="lrn",
        statement="Local response normalisation lowers the error.",
        source="section 3.3",
        with_it=_AS_RUN,
        without=Arm("without LRN", knobs={"lrn": False}),  # net 148: no norm layer at all
        published=(
            *effects(_VAL, _TEN, "section 3.3", top1=1.4, top5=1.2),
            *_logs(_VAL, "148", (42.034, 19.362)),
        ),
    ),
    Claim(
        paper="alexnet",
        id="overlap",
        statement="Overlapping pooling lowers the error.",
        source="section 3.4",
        with_it=_AS_RUN,
        # Map sizes stay equal here; net 147's last map is 7x7, and its fc6 larger.
        without=Arm("2x2 pools", knobs={"overlapping_pooling": False}),
        published=(
            *effects(_VAL, _TEN, "section 3.4", top1=0.4, top5=0.3),
            *_logs(_VAL, "147", (41.058, 18.510)),
        ),
    ),
    Claim(
        paper="alexnet",
        id="dropout",
        statement="Dropout reduces overfitting: without it the validation error is higher.",
        source="section 4.2",
        with_it=_AS_RUN,
        without=Arm("without dropout", knobs={"dropout": 0.0}),
    ),
    Claim(
        paper="alexnet",
        id="two_gpus",
        statement="Two columns have a lower error than one column with half as many kernels.",
        source="section 3.2",
        with_it=_AS_RUN,
        without=Arm("one column", knobs={"one_column": True}),
        published=(
            *effects(_TEST_2010, _TEN, "section 3.2", top1=1.7, top5=1.2),
            *_logs(_TEST_2010, "145-half", (39.168, 18.229)),
        ),
    ),
    Claim(
        paper="alexnet",
        id="pca_colour",
        statement="Shifting colours along their principal components lowers the error.",
        source="section 4.1",
        with_it=_AS_RUN,
        without=Arm("without colour noise", augmentation={"colour_noise": "none"}),
        published=(PublishedEffect(1.0, _VAL, "not stated", "section 4.1", printed="over 1"),),
    ),
    Claim(
        paper="alexnet",
        id="crops_flips",
        statement="Without random crops and mirror images the network overfits substantially.",
        source="section 4.1",
        with_it=_AS_RUN,
        without=Arm(
            "centre crop, no mirror image", augmentation={"random_crop": False, "flip": False}
        ),
    ),
    *(_depth(layer) for layer in ("conv2", "conv3", "conv4", "conv5")),
    Claim(
        paper="alexnet",
        id="relu",
        statement="A four-layer network reaches 25% training error in fewer epochs with ReLU than "
        "with tanh.",
        source="section 3.1, Fig. 1",
        with_it=_FOUR_LAYERS,
        without=replace(
            _FOUR_LAYERS, name="tanh", knobs={**_FOUR_LAYERS.knobs, "activation": "tanh"}
        ),
        metric="epochs_to_train_error_25",
        published=(
            PublishedEffect(
                30.0,
                "CIFAR-10 train",
                "training error",
                "Fig. 1, read off: 6 against 36 epochs",
                printed="six times faster",
            ),
        ),
        tuned=True,
    ),
    Claim(
        paper="alexnet",
        id="ten_crop",
        statement="Averaging over ten crops gives a lower error than the centre crop.",
        source="section 6, footnote",
        with_it=Arm("ten crops", protocol="ten_crop"),
        without=Arm("centre crop", protocol="centre_crop"),
        published=effects(
            _TEST_2010, "ten crops against one", "section 6, footnote", top1=1.5, top5=1.3
        ),
    ),
    Claim(
        paper="alexnet",
        id="five_nets",
        statement="The average of five nets has a lower error than one of them.",
        source="section 6, Table 2",
        with_it=Arm("five nets", nets=5),  # seeds; the authors' five are five configurations
        without=_AS_RUN,
        published=effects(_VAL, _TEN, "Table 2", top1=2.6, top5=1.8),
    ),
    Claim(
        paper="alexnet",
        id="weight_decay",
        statement="Weight decay lowers the training error, too.",
        source="section 5",
        with_it=_AS_RUN,
        without=Arm("without weight decay", weight_decay=0.0),
        metric="train_error_top1",
    ),
    Claim(
        paper="alexnet",
        id="initialisation",
        statement="The authors' own initialisation, with a standard deviation of 0.03 in layers 3 to 5, "
        "gives a lower error than the paper's 0.01.",
        source="layers-145.cfg against section 5",
        with_it=_AS_RUN,
        without=Arm("0.01 everywhere", knobs={"initialisation": "paper"}),
    ),
    Claim(
        paper="alexnet",
        id="lrn_alpha",
        statement="Dividing alpha by the window size (as run) or not (as printed) changes the error by "
        "less than half a point.",
        source="section 3.3 against layer.py",
        with_it=Arm("divided, as run", knobs={"lrn_alpha_convention": "divided"}),
        without=Arm("as printed", knobs={"lrn_alpha_convention": "paper"}),
        expects="equivalent",
        margin=0.5,
    ),
    Claim(
        paper="alexnet",
        id="connected_columns",
        statement="Two connected columns have a lower error than two isolated ones.",
        source="log of net 150",
        with_it=_AS_RUN,
        without=Arm("isolated columns", knobs={"groups": "isolated"}),
        published=_logs(_VAL, "150", (41.83, 19.33)),
    ),
    Claim(
        paper="alexnet",
        id="pretraining",
        statement="Pre-training on all 15 million images lowers the error.",
        source="section 6, Table 2",
        published=effects(_VAL, _TEN, "Table 2", top1=1.7, top5=1.6),
        not_comparable=everywhere("the ImageNet Fall 2011 release is not available"),
    ),
)
