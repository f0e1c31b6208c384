"""2012: Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks.

    python -m pipeline.run --year 2012 --profile paper --data FOLDER_WITH_THE_OFFICIAL_ARCHIVES

The winner's network, from the paper's text and from the authors' released code and logs
(computerhistory/AlexNet-Source-Code).
"""

from pipeline.papers.alexnet import claims, published, recipes
from stages.paper import Paper

PAPER = Paper(
    name="alexnet",
    year=2012,
    title="ImageNet Classification with Deep Convolutional Neural Networks (NIPS 2012)",
    system="SuperVision",
    headline="AlexNet",
    built_of="AlexNet",
    hardware="5 to 6 days on two GTX 580 of 3 GB (section 5)",
    recipes=recipes.RECIPES,
    published=published.PUBLISHED,
    claims=claims.CLAIMS,
)
