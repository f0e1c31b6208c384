"""What He, Zhang, Ren and Sun printed (2015), and the notes of their released nets."""

from collections.abc import Iterator

from stages.measurement import Published, published

_CIFAR_FIGURES = (  # Table 6
    ("ResNet-20", "cifar20", 8.75),
    ("ResNet-32", "cifar32", 7.51),
    ("ResNet-44", "cifar44", 7.17),
    ("ResNet-56", "cifar56", 6.97),
    ("ResNet-110, best of five (6.61 +- 0.16)", "cifar110", 6.43),
    ("ResNet-1202", "cifar1202", 7.93),
)


def _published() -> Iterator[Published]:
    for described, recipe, top1, top5, source in (
        ("plain-18", "plain18", 27.94, None, "Table 2"),
        ("plain-34", "plain34", 28.54, 10.02, "Tables 2 and 3"),
        ("ResNet-18", "resnet18", 27.88, None, "Table 2"),
        ("ResNet-34 A", "resnet34", 25.03, 7.76, "Tables 2 and 3"),
        ("ResNet-34 B", "resnet34_b", 24.52, 7.46, "Table 3"),
        ("ResNet-34 C", "resnet34_c", 24.19, 7.40, "Table 3"),
        ("ResNet-50", "resnet50", 22.85, 6.71, "Table 3"),
        ("ResNet-101", "resnet101", 21.75, 6.05, "Table 3"),
        ("ResNet-152", "resnet152", 21.43, 5.71, "Table 3"),
    ):
        yield published(
            described,
            "ten_crop_rectangle",
            recipe=recipe,
            error_top1=top1,
            error_top5=top5,
            source=source,
        )
    for described, recipe, top1, top5 in (
        ("ResNet-34 B", "resnet34_b", 21.84, 5.71),
        ("ResNet-34 C", "resnet34_c", 21.53, 5.60),
        ("ResNet-50", "resnet50", 20.74, 5.25),
        ("ResNet-101", "resnet101", 19.87, 4.60),
        ("ResNet-152", "resnet152", 19.38, 4.49),
    ):
        yield published(
            described,
            "dense_multi_scale",
            recipe=recipe,
            error_top1=top1,
            error_top5=top5,
            source="Table 4",
        )
    for described, recipe, top1, top5 in (
        ("ResNet-50, released", "resnet50", 24.7, 7.8),
        ("ResNet-101, released", "resnet101", 23.6, 7.1),
        ("ResNet-152, released", "resnet152", 23.0, 6.7),
    ):
        yield published(
            described,
            "centre_crop",
            recipe=recipe,
            error_top1=top1,
            error_top5=top5,
            logged=True,
            source="README.md, KaimingHe/deep-residual-networks",
        )
    yield published(
        "6 models of different depth, two of 152 layers",
        "dense_multi_scale",
        recipe="six",
        error_top5=3.57,
        nets=6,
        benchmark="ilsvrc2012-test",
        source="Table 5; 0.03567 in the official results",
    )
    for described, recipe, top1 in _CIFAR_FIGURES:
        yield published(
            f"{described} on CIFAR-10",
            "centre_crop",
            recipe=recipe,
            error_top1=top1,
            benchmark="cifar10-test",
            source="Table 6",
        )


PUBLISHED: tuple[Published, ...] = tuple(_published())
