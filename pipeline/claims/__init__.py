"""The claims of the papers as data, one file a paper, and the table that says what became of them.

python -m pipeline.claims
"""

from pipeline.claims import alexnet, googlenet, grid, resnet, resnext, senet, vgg, zfnet
from stages.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    *alexnet.CLAIMS,
    *zfnet.CLAIMS,
    *vgg.CLAIMS,
    *googlenet.CLAIMS,
    *resnet.CLAIMS,
    *resnext.CLAIMS,
    *senet.CLAIMS,
    *grid.CLAIMS,
)
