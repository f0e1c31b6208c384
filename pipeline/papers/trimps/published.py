"""What is known about the figures of Trimps-Soushen (2016), and what its nets' own papers printed."""

from stages.measurement import Published, published

PUBLISHED: tuple[Published, ...] = (
    published(
        "the best single model, Inception-ResNet-v2",
        "dense_multi_scale",
        recipe="inception_resnet_v2",
        error_top5=3.52,
        source="a review of the team's slides",
    ),
    published(
        "the fusion: five kinds of nets, number of nets not published",
        "dense_multi_scale",
        recipe="fusion",
        error_top5=2.92,
        nets=None,
        source="a review of the team's slides",
    ),
    published(
        "the fusion: five kinds of nets, number of nets not published",
        "dense_multi_scale",
        recipe="fusion",
        error_top5=2.99,
        nets=None,
        benchmark="ilsvrc2012-test",
        source="official results of 2016: 0.02991",
    ),
    *(
        published(
            described, protocol, recipe=recipe, error_top1=top1, error_top5=top5, source=source
        )
        for described, protocol, recipe, top1, top5, source in (
            (
                "Inception-v3, on the 48,238 images that are not blacklisted",
                "centre_crop",
                "inception_v3",
                21.2,
                5.6,
                "arXiv:1512.00567, Table 3",
            ),
            (
                "Inception-v4, without the blacklisted images",
                "centre_crop",
                "inception_v4",
                20.0,
                5.0,
                "arXiv:1602.07261, Table 2",
            ),
            (
                "Inception-ResNet-v2, without the blacklisted images",
                "centre_crop",
                "inception_resnet_v2",
                19.9,
                4.9,
                "arXiv:1602.07261, Table 2",
            ),
            (
                "pre-activation ResNet-200",
                "320-pixel centre crop",
                "",
                20.1,
                4.8,
                "arXiv:1603.05027, Table 5, with scale and aspect ratio augmentation",
            ),
            (
                "WRN-50-2, a smaller net than the entry's",
                "centre_crop",
                "",
                21.9,
                6.03,
                "pretrained/README.md, szagoruyko/wide-residual-networks; its main README prints 5.79, the "
                "figure of the net beside it",
            ),
        )
    ),
    published(
        "pre-activation ResNet-200, released",
        "centre_crop",
        recipe="preact_resnet200",
        error_top1=21.66,
        error_top5=5.79,
        logged=True,
        source="pretrained/README.md, facebookarchive/fb.resnet.torch",
    ),
)
