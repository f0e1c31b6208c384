"""What Xie, Girshick, Dollar, Tu and He printed (2016).

The entry, 3.031 % on the test set, appears only in the official record: it is an ensemble whose members were
not published.
"""

from stages.measurement import Published, published

PUBLISHED: tuple[Published, ...] = (
    *(
        published(
            f"{layers} layers, {setting}",
            "centre_crop",
            recipe=f"{layers}_{setting}",
            error_top1=top1,
            error_top5=top5,
            source=source,
        )
        for layers, setting, top1, top5, source in (
            (50, "1x64d", 23.9, None, "Table 3"),
            (50, "2x40d", 23.0, None, "Table 3"),
            (50, "4x24d", 22.6, None, "Table 3"),
            (50, "8x14d", 22.3, None, "Table 3"),
            (50, "32x4d", 22.2, None, "Table 3"),
            (101, "1x64d", 22.0, 6.0, "Tables 3 and 4"),
            (101, "2x40d", 21.7, None, "Table 3"),
            (101, "4x24d", 21.4, None, "Table 3"),
            (101, "8x14d", 21.3, None, "Table 3"),
            (101, "32x4d", 21.2, 5.6, "Tables 3 and 4"),
            (101, "1x100d", 21.3, 5.7, "Table 4"),
            (101, "2x64d", 20.7, 5.5, "Table 4"),
            (101, "64x4d", 20.4, 5.3, "Table 4"),
        )
    ),
    published(
        "101 layers, 64x4d",
        "320-pixel centre crop",
        error_top1=19.1,
        error_top5=4.4,
        source="Table 5",
    ),
    published(
        "101 layers, 64x4d",
        "dense_multi_scale",
        recipe="101_64x4d",
        error_top1=17.7,
        error_top5=3.7,
        source="section 5.1",
    ),
)
