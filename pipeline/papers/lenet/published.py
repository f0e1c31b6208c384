"""What LeCun, Bottou, Bengio and Haffner printed in 1998 about the test on MNIST (section III.C, Fig. 9)."""

from stages.measurement import published

_SOURCE = "section III.C, Fig. 9"

PUBLISHED = (
    *(
        published(
            described,
            "centre_crop",
            recipe=recipe,
            benchmark="mnist-test",
            source=_SOURCE,
            error_top1=error,
        )
        for described, error, recipe in (
            ("LeNet-5", 0.95, "lenet5"),
            ("LeNet-5, with 540,000 distorted images", 0.8, ""),
            ("LeNet-4", 1.1, ""),
            ("LeNet-1", 1.7, ""),
            ("300-100 hidden units", 3.05, "fully_connected"),
            ("300-100 hidden units, with distorted images", 2.5, ""),
            ("300 hidden units", 4.7, ""),
            ("1000 hidden units", 4.5, ""),
            ("linear classifier", 12.0, ""),
            ("pairwise linear classifier", 7.6, ""),
            ("nearest neighbours, Euclidean", 5.0, ""),
            ("nearest neighbours, Euclidean, deslanted", 2.4, ""),
            ("principal components and a quadratic classifier", 3.3, ""),
            ("1000 radial basis functions", 3.6, ""),
            ("support vector machine, polynomial of degree 4", 1.1, ""),
            ("nearest neighbours, tangent distance", 1.1, ""),
        )
    ),
    published(
        "three LeNet-4, boosted",
        "centre_crop",
        benchmark="mnist-test",
        nets=3,
        source=f"{_SOURCE}; the number of nets is from memory",
        error_top1=0.7,
    ),
)
