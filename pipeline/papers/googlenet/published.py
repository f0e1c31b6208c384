"""What Szegedy et al. printed (2014), which includes no top-1 error, and what BVLC measured."""

from stages.measurement import Published, published

# No top-1 error is printed anywhere.
PUBLISHED: tuple[Published, ...] = (
    published(
        "1 model", "centre_crop", recipe="szegedy", error_top5=10.07, source="Table 3: 1 crop"
    ),
    published("1 model", "ten_crop", recipe="szegedy", error_top5=9.15, source="Table 3"),
    published("1 model", "144_crops", recipe="szegedy", error_top5=7.89, source="Table 3"),
    published(
        "7 models",
        "centre_crop",
        recipe="seven",
        error_top5=8.09,
        nets=7,
        source="Table 3: 1 crop",
    ),
    published("7 models", "ten_crop", recipe="seven", error_top5=7.62, nets=7, source="Table 3"),
    published("7 models", "144_crops", recipe="seven", error_top5=6.67, nets=7, source="Table 3"),
    published(
        "7 models",
        "144_crops",
        recipe="seven",
        error_top5=6.67,
        nets=7,
        benchmark="ilsvrc2012-test",
        source="Table 2; 0.06656 in the official results",
    ),
    published(
        "BVLC's replication",
        "centre_crop",
        recipe="bvlc_quick",
        error_top1=31.3,
        error_top5=11.1,
        logged=True,
        source="models/bvlc_googlenet/readme.md, BVLC/caffe",
    ),
)
