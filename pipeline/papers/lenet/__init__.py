"""1998: LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition.

    python -m pipeline.run --paper lenet --profile paper --data mnist=FOLDER_WITH_THE_FOUR_FILES

The ancestor: local fields, shared weights and sub-sampling, fourteen years before ImageNet. It reads digits,
and is part of the history for what AlexNet took over from it.
"""

from pipeline.papers.lenet import claims, published, recipes
from stages.paper import Paper

PAPER = Paper(
    name="lenet",
    year=1998,
    title="Gradient-Based Learning Applied to Document Recognition (Proceedings of the IEEE 86(11))",
    system="LeNet-5",
    headline="LeNet-5",
    built_of="LeNet",
    hardware="not in the summaries available to us; 20 passes over 60,000 digits",
    recipes=recipes.RECIPES,
    published=published.PUBLISHED,
    claims=claims.CLAIMS,
)
