"""What Simonyan and Zisserman printed (2014): Tables 3 to 7, and their released weights."""

from stages.measurement import Published, published

PUBLISHED: tuple[Published, ...] = (
    *(
        published(
            f"{net}, S={scale}",
            protocol,
            recipe=recipe,
            error_top1=top1,
            error_top5=top5,
            source=source,
        )
        for net, scale, recipe, protocol, top1, top5, source in (
            ("A", "256", "a_256", "dense", 29.6, 10.4, "Table 3"),
            ("A-LRN", "256", "a_lrn_256", "dense", 29.7, 10.5, "Table 3"),
            ("B", "256", "b_256", "dense", 28.7, 9.9, "Table 3"),
            ("C", "256", "c_256", "dense", 28.1, 9.4, "Table 3"),
            ("C", "384", "c_384", "dense", 28.1, 9.3, "Table 3"),
            ("C", "[256;512]", "c_jitter", "dense", 27.3, 8.8, "Table 3"),
            ("D", "256", "d_256", "dense", 27.0, 8.8, "Table 3"),
            ("D", "384", "d_384", "dense", 26.8, 8.7, "Table 3"),
            ("D", "[256;512]", "d_jitter", "dense", 25.6, 8.1, "Table 3"),
            ("E", "256", "e_256", "dense", 27.3, 9.0, "Table 3"),
            ("E", "384", "e_384", "dense", 26.9, 8.7, "Table 3"),
            ("E", "[256;512]", "e_jitter", "dense", 25.5, 8.0, "Table 3"),
            ("B", "256", "b_256", "dense_multi_scale", 28.2, 9.6, "Table 4"),
            ("C", "256", "c_256", "dense_multi_scale", 27.7, 9.2, "Table 4"),
            ("C", "384", "c_384", "dense_multi_scale", 27.8, 9.2, "Table 4"),
            ("C", "[256;512]", "c_jitter", "dense_multi_scale", 26.3, 8.2, "Table 4"),
            ("D", "256", "d_256", "dense_multi_scale", 26.6, 8.6, "Table 4"),
            ("D", "384", "d_384", "dense_multi_scale", 26.5, 8.6, "Table 4"),
            ("D", "[256;512]", "d_jitter", "dense_multi_scale", 24.8, 7.5, "Table 4"),
            ("E", "256", "e_256", "dense_multi_scale", 26.9, 8.7, "Table 4"),
            ("E", "384", "e_384", "dense_multi_scale", 26.7, 8.6, "Table 4"),
            ("E", "[256;512]", "e_jitter", "dense_multi_scale", 24.8, 7.5, "Table 4"),
            ("D", "[256;512]", "d_jitter", "multi_crop", 24.6, 7.5, "Table 5"),
            ("D", "[256;512]", "d_jitter", "multi_crop_and_dense", 24.4, 7.2, "Table 5"),
            ("E", "[256;512]", "e_jitter", "multi_crop", 24.6, 7.4, "Table 5"),
            ("E", "[256;512]", "e_jitter", "multi_crop_and_dense", 24.4, 7.1, "Table 5"),
        )
    ),
    published(
        "E, S=[256;512]",
        "dense_multi_scale",
        recipe="e_jitter",
        error_top5=7.3,
        benchmark="ilsvrc2012-test",
        source="section 4.2",
    ),
    published(
        "D, S=[256;512]",
        "dense_multi_scale",
        recipe="d_jitter",
        error_top5=7.4,
        benchmark="ilsvrc2012-test",
        logged=True,
        source="the authors' page in BVLC's model zoo",
    ),
    published(
        "1 net",
        "multi_crop_and_dense",
        recipe="e_jitter",
        error_top5=7.0,
        benchmark="ilsvrc2012-test",
        source="Table 7",
    ),
    published(
        "7 nets, the submission",
        "dense_multi_scale",
        recipe="submission",
        error_top1=24.7,
        error_top5=7.5,
        nets=7,
        source="Table 6",
    ),
    published(
        "7 nets, the submission",
        "dense_multi_scale",
        recipe="submission",
        error_top5=7.3,
        nets=7,
        benchmark="ilsvrc2012-test",
        source="Table 6; 7.325 in the official results",
    ),
    *(
        published(
            "D and E, S=[256;512]",
            protocol,
            recipe="d_and_e",
            error_top1=top1,
            error_top5=top5,
            nets=2,
            source="Table 6",
        )
        for protocol, top1, top5 in (
            ("dense_multi_scale", 24.0, 7.1),
            ("multi_crop", 23.9, 7.2),
            ("multi_crop_and_dense", 23.7, 6.8),
        )
    ),
    *(
        published(
            "D and E, S=[256;512]",
            protocol,
            recipe="d_and_e",
            error_top5=top5,
            nets=2,
            benchmark="ilsvrc2012-test",
            source="Table 6",
        )
        for protocol, top5 in (("dense_multi_scale", 7.0), ("multi_crop_and_dense", 6.8))
    ),
    *(
        published(
            f"{net}, the authors' weights in TF-slim",
            "centre_crop",
            error_top1=top1,
            error_top5=10.2,
            logged=True,
            source="README.md, tensorlayer/pretrained-models",
        )
        for net, top1 in (("D", 28.5), ("E", 28.9))
    ),
    published(
        "1 net, entry of the team VGG",
        "not stated",
        error_top5=8.434,
        benchmark="ilsvrc2012-test",
        source="official results of 2014",
    ),
)
