"""What Hu, Shen, Albanie, Sun and Wu printed (2017), and the notes of their released nets.

The entry, 2.251 % on the test set, appears only in the official record: it is an ensemble whose members were
not published.
"""

from stages.measurement import Published, published

PUBLISHED: tuple[Published, ...] = (
    published(
        "SENet-154",
        "centre_crop",
        recipe="senet154",
        error_top1=18.68,
        error_top5=4.47,
        source="Table 8",
    ),
    published(
        "SENet-154",
        "320-pixel centre crop",
        error_top1=17.28,
        error_top5=3.79,
        source="Table 8",
    ),
    published(
        "SENet-154, trained at 320",
        "320-pixel centre crop",
        error_top1=16.88,
        error_top5=3.58,
        source="Table 9",
    ),
    *(
        published(
            described,
            "centre_crop",
            recipe=recipe,
            error_top1=top1,
            error_top5=top5,
            source=source,
        )
        for described, recipe, top1, top5, source in (
            ("SE-ResNet-50", "se_resnet50", 23.29, 6.62, "Table 2"),
            ("SE-ResNet-101", "se_resnet101", 22.38, 6.07, "Table 2"),
            ("SE-ResNet-152", "se_resnet152", 21.57, 5.73, "Table 2"),
            ("SE-ResNeXt-50", "se_resnext50", 21.10, 5.49, "Table 2"),
            ("SE-ResNeXt-101", "se_resnext101", 20.70, 5.01, "Table 2"),
            ("ResNet-50, re-implemented", "resnet50", 24.80, 7.48, "Table 2"),
            ("ResNet-101, re-implemented", "resnet101", 23.17, 6.52, "Table 2"),
            ("ResNet-152, re-implemented", "resnet152", 22.42, 6.34, "Table 2"),
            ("ResNeXt-50, re-implemented", "resnext50", 22.11, 5.90, "Table 2"),
            ("ResNeXt-101, re-implemented", "resnext101", 21.18, 5.57, "Table 2"),
            ("SE-ResNet-50, the ablations", "se_resnet50_plateau", 22.28, 6.03, "Tables 10 to 15"),
            ("ResNet-50, the ablations", "resnet50_plateau", 23.30, 6.55, "Table 13"),
            ("SE-ResNet-50, 270 epochs", "se_resnet50_270", 22.20, 6.00, "section 6"),
            ("ResNet-50, 270 epochs", "resnet50_270", 23.21, 6.53, "section 6"),
        )
    ),
    *(
        published(
            f"{described}, released",
            "centre_crop",
            error_top1=top1,
            error_top5=top5,
            logged=True,
            source="README.md, hujie-frank/SENet",
        )
        for described, top1, top5 in (
            ("SE-ResNet-50", 22.37, 6.36),
            ("SE-ResNet-101", 21.75, 5.72),
            ("SE-ResNet-152", 21.34, 5.54),
            ("SE-ResNeXt-50", 20.97, 5.54),
            ("SE-ResNeXt-101", 19.81, 4.96),
            ("SENet-154", 18.68, 4.47),
        )
    ),
)
