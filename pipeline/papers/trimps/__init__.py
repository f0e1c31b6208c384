"""2016: Trimps-Soushen, the winner: a weighted fusion of five kinds of networks. There is no paper.

    python -m pipeline.run --year 2016 --profile paper --data FOLDER_WITH_THE_OFFICIAL_ARCHIVES

What is known comes from workshop slides ("Good Practices for Deep Feature Fusion") and the results page:
Inception-v3, Inception-v4, Inception-ResNet-v2, a pre-activation ResNet-200 and a wide ResNet of 68 layers,
each trained with multi-scale augmentation and large batches, and tested densely at several scales with
mirror images; their outputs are summed with weights, the largest for the best net. So the idea can be
rebuilt; the entry cannot.
"""

from pipeline.papers.trimps import claims, published, recipes
from stages.paper import Paper

PAPER = Paper(
    name="trimps",
    year=2016,
    title="Good Practices for Deep Feature Fusion (ILSVRC 2016 workshop, slides)",
    system="Trimps-Soushen",
    headline="the fusion of Trimps-Soushen",
    built_of="fusion of families",
    hardware="not published",
    recipes=recipes.RECIPES,
    published=published.PUBLISHED,
    claims=claims.CLAIMS,
)
