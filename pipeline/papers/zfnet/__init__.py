"""2013: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (arXiv:1311.2901v3).

    python -m pipeline.run --year 2013 --profile paper --data FOLDER_WITH_THE_OFFICIAL_ARCHIVES

The winner's networks are not here: those of Clarifai (11.743 %, Zeiler's company) were never published, and
the authors' own team came third. This is the paper whose visualisations led to the winner's architectures.
"""

from pipeline.papers.zfnet import claims, published, recipes
from stages.paper import Paper

PAPER = Paper(
    name="zfnet",
    year=2013,
    title="Visualizing and Understanding Convolutional Networks (ECCV 2014)",
    system="ZF",
    headline="ZFNet",
    built_of="convnets",
    hardware="about 12 days on one GTX 580 (section 3)",
    recipes=recipes.RECIPES,
    published=published.PUBLISHED,
    claims=claims.CLAIMS,
)
