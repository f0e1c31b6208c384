"""2016: Xie, Girshick, Dollar, Tu and He, Aggregated Residual Transformations (arXiv:1611.05431), runner-up.

python -m pipeline.run --paper resnext --profile paper --data FOLDER_WITH_THE_OFFICIAL_ARCHIVES
"""

from pipeline.papers.resnext import claims, published, recipes
from stages.paper import Paper

PAPER = Paper(
    name="resnext",
    year=2016,
    title="Aggregated Residual Transformations for Deep Neural Networks (CVPR 2017)",
    system="ResNeXt",
    headline="ResNeXt",
    built_of="ResNeXt",
    hardware="10 days on 8 M40 for 101 layers of 64x4d (section 5.1)",
    recipes=recipes.RECIPES,
    published=published.PUBLISHED,
    claims=claims.CLAIMS,
)
