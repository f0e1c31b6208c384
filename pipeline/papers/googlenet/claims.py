"""2014: what Szegedy et al. claim (arXiv:1409.4842, CVPR 2015). It prints no top-1 error anywhere."""

from functools import partial

from stages.claim import Arm, Claim, PublishedEffect, effects

_VAL = "ILSVRC-2012 val"
_claim = partial(Claim, paper="googlenet")

_AS_PUBLISHED = Arm("as published")

CLAIMS = (
    _claim(
        id="auxiliary_heads",
        statement="The two auxiliary heads lower the error.",
        source="section 5",
        with_it=_AS_PUBLISHED,
        without=Arm(
            "without heads",
            knobs={"aux_heads": "none"},
            without_knobs=("aux_pool", "aux_dropout"),
            changes={"auxiliary_weight": 0.0},
        ),
        published=(
            PublishedEffect(
                0.5,
                _VAL,
                "not stated",
                "CVPR text of section 5, from memory",
                printed="about 0.5",
            ),
        ),
    ),
    _claim(
        id="one_head",
        statement="One auxiliary head suffices: the error stays within half a point.",
        source="CVPR text of section 5, from memory",
        with_it=Arm("one head, on 4d", knobs={"aux_heads": "4d"}),
        without=_AS_PUBLISHED,
        expects="equivalent",
        margin=0.5,
    ),
    _claim(
        id="average_pooling",
        statement="Average pooling in place of a fully connected layer lowers the error.",
        source="section 5",
        with_it=_AS_PUBLISHED,
        without=Arm("fully connected", knobs={"head": "fc"}),
        published=(PublishedEffect(0.6, _VAL, "not stated", "section 5", printed="about 0.6"),),
    ),
    _claim(
        id="dropout",
        statement="Dropout remains essential without fully connected layers.",
        source="section 5",
        with_it=_AS_PUBLISHED,
        without=Arm("without dropout", knobs={"dropout": 0.0}),
    ),
    _claim(
        id="ten_crops",
        statement="Ten crops give a lower error than one.",
        source="section 7, Table 3",
        with_it=Arm("ten crops", protocol="ten_crop"),
        without=Arm("one crop", protocol="centre_crop"),
        metric="error_top5",
        published=effects(_VAL, "1 net", "Table 3", top5=0.92),
    ),
    _claim(
        id="144_crops",
        statement="144 crops give a lower error than ten.",
        source="section 7, Table 3",
        with_it=Arm("144 crops", protocol="144_crops"),
        without=Arm("ten crops", protocol="ten_crop"),
        metric="error_top5",
        published=effects(_VAL, "1 net", "Table 3", top5=1.26),
    ),
    _claim(
        id="seven_nets",
        statement="The average of seven nets has a lower error than one of them.",
        source="section 7, Table 3",
        with_it=Arm("seven nets", nets=7, protocol="centre_crop"),
        without=Arm("one net", protocol="centre_crop"),
        metric="error_top5",
        published=effects(_VAL, "1 crop", "Table 3", top5=1.98),
    ),
    _claim(
        id="seven_nets_144_crops",
        statement="With 144 crops as well, the average of seven nets has a lower error than one of them.",
        source="section 7, Table 3",
        with_it=Arm("seven nets", nets=7, protocol="144_crops"),
        without=Arm("one net", protocol="144_crops"),
        metric="error_top5",
        published=effects(_VAL, "144 crops", "Table 3", top5=1.22),
    ),
    _claim(
        id="parameters",
        statement="GoogLeNet has twelve times fewer parameters than Krizhevsky's net.",
        source="section 1",
        computed="60,965,224 against 6,998,552: 8.7 times fewer (python -m models googlenet)",
    ),
)
