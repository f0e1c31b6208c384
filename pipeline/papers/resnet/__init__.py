"""2015: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition (arXiv:1512.03385, CVPR 2016).

    python -m pipeline.run --year 2015 --profile paper --data FOLDER_WITH_THE_OFFICIAL_ARCHIVES

The nets of section 4.2 for CIFAR want ``--data FOLDER_WITH_CIFAR_10``.
"""

from pipeline.papers.resnet import claims, published, recipes
from stages.paper import Paper

PAPER = Paper(
    name="resnet",
    year=2015,
    title="Deep Residual Learning for Image Recognition (CVPR 2016)",
    system="MSRA",
    headline="ResNet",
    built_of="ResNet",
    hardware="8 GPUs (the released models' README); the time is not in the paper",
    recipes=recipes.RECIPES,
    published=published.PUBLISHED,
    claims=claims.CLAIMS,
)
