"""shard: from images as people hold them to WebDataset tars with a manifest.

`plan` decides which sample goes where, `quality` what becomes of each file and `boxes` of each box, `write`
makes one shard, and `statistics` looks at the pixels. `stage` runs them all. `verify` checks a finished data
set, with `annotations` for labels, objects and captions.
"""

from stages.shard.plan import SHARD_BYTES
from stages.shard.quality import PRELOAD, Resize
from stages.shard.stage import Progress, shard

__all__ = ["PRELOAD", "SHARD_BYTES", "Progress", "Resize", "shard"]
