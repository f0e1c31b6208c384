"""2014: Simonyan and Zisserman, Very Deep Convolutional Networks (arXiv:1409.1556v6, ICLR 2015), runner-up.

python -m pipeline.run --paper vgg --profile paper --data FOLDER_WITH_THE_OFFICIAL_ARCHIVES
"""

from pipeline.papers.vgg import claims, published, recipes
from stages.paper import Paper

PAPER = Paper(
    name="vgg",
    year=2014,
    title="Very Deep Convolutional Networks for Large-Scale Image Recognition (ICLR 2015)",
    system="VGG",
    headline="VGG-D",
    built_of="VGG",
    hardware="2 to 3 weeks a net on four Titan Black (section 3.3)",
    recipes=recipes.RECIPES,
    published=published.PUBLISHED,
    claims=claims.CLAIMS,
)
