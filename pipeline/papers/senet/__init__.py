"""2017: Hu, Shen, Albanie, Sun and Wu, Squeeze-and-Excitation Networks (arXiv:1709.01507, CVPR 2018).

python -m pipeline.run --year 2017 --profile paper --data FOLDER_WITH_THE_OFFICIAL_ARCHIVES
"""

from pipeline.papers.senet import claims, published, recipes
from stages.paper import Paper

PAPER = Paper(
    name="senet",
    year=2017,
    title="Squeeze-and-Excitation Networks (CVPR 2018)",
    system="WMW",
    headline="SENet",
    built_of="SENet",
    hardware="SENet-154 on 64 GPUs (appendix), the released models on 8; the time is not given",
    recipes=recipes.RECIPES,
    published=published.PUBLISHED,
    claims=claims.CLAIMS,
)
