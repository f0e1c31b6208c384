"""2014: Szegedy et al., Going Deeper with Convolutions (arXiv:1409.4842, CVPR 2015), winner.

python -m pipeline.run --year 2014 --profile paper --data FOLDER_WITH_THE_OFFICIAL_ARCHIVES
"""

from pipeline.papers.googlenet import claims, published, recipes
from stages.paper import Paper

PAPER = Paper(
    name="googlenet",
    year=2014,
    title="Going Deeper with Convolutions (CVPR 2015)",
    system="GoogLeNet",
    headline="GoogLeNet",
    built_of="Inception",
    hardware="CPUs under DistBelief; a week on a few high-end GPUs is the authors' estimate (section 6)",
    recipes=recipes.RECIPES,
    published=published.PUBLISHED,
    claims=claims.CLAIMS,
)
