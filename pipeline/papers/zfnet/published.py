"""What Zeiler and Fergus printed (2013).

The winner's figures, Clarifai's 11.743 and 11.197 %, appear only in the official record: its nets were never
published. What is known of one of them stands here as well.
"""

from stages.measurement import Published, published

# Table 2, which does not say how its nets were tested.
_TABLE_2 = "Table 2; ten crops are assumed, the test is not spelt out"

PUBLISHED: tuple[Published, ...] = (
    published(
        "1 convnet as in Fig. 3",
        "ten_crop",
        recipe="fig3",
        error_top1=38.4,
        error_top5=16.5,
        source=_TABLE_2,
    ),
    published(
        "5 convnets as in Fig. 3 (a)",
        "ten_crop",
        recipe="five",
        error_top1=36.7,
        error_top5=15.3,
        nets=5,
        source=_TABLE_2,
    ),
    published(
        "5 convnets as in Fig. 3 (a)",
        "ten_crop",
        recipe="five",
        error_top5=15.3,
        nets=5,
        benchmark="ilsvrc2012-test",
        source=_TABLE_2,
    ),
    published(
        "1 convnet with 512, 1024, 512 maps in layers 3, 4, 5 (b)",
        "ten_crop",
        recipe="wider",
        error_top1=37.5,
        error_top5=16.0,
        source=_TABLE_2,
    ),
    published(
        "1 convnet with 512, 1024, 512 maps in layers 3, 4, 5 (b)",
        "ten_crop",
        recipe="wider",
        error_top5=16.1,
        benchmark="ilsvrc2012-test",
        source=_TABLE_2,
    ),
    published(
        "6 convnets, (a) and (b)",
        "ten_crop",
        recipe="six",
        error_top1=36.0,
        error_top5=14.7,
        nets=6,
        source=_TABLE_2,
    ),
    published(
        "6 convnets, (a) and (b)",
        "ten_crop",
        recipe="six",
        error_top5=14.8,
        nets=6,
        benchmark="ilsvrc2012-test",
        source=_TABLE_2,
    ),
    published(
        "their replication of Krizhevsky's net",
        "ten_crop",
        error_top1=40.5,
        error_top5=18.1,
        source=_TABLE_2,
    ),
    published(
        "1 convnet, entry of the team ZF",
        "not stated",
        error_top5=14.079,
        benchmark="ilsvrc2012-test",
        source="official results of 2013",
    ),
    published(
        "5 convnets of 4 architectures, entry of the team ZF",
        "not stated",
        error_top5=13.511,
        nets=5,
        benchmark="ilsvrc2012-test",
        source="official results of 2013",
    ),
    published(
        "1 net of Clarifai, the winner",
        "not stated",
        error_top5=12.5,
        benchmark="ilsvrc2012-test",
        source="arXiv:1409.1556, Table 7",
    ),
)
