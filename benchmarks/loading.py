"""Images per second and core of one loader process, compared with the loaders that people use.

    python -m benchmarks.loading FOLDER_WITH_THE_OFFICIAL_ARCHIVES [--rounds 7] [--repeat 24] [--only NAME]

Each system decodes, takes a random resized crop of 224, mirrors half and makes batches of 64. Systems take
turns; ratios are taken within a round, and their median counts. The comparison is of images per second of
processor time, over all processes of a system: what one core loads, even on a machine that is busy with
other things. Images per second of wall-clock time are shown too. ``float`` systems use Pillow and end with
normalised floats, as torchvision's documentation and reference scripts do; ``uint8`` ones use torchvision's
decoder and v2 transforms, the best their users can write. litdata, mosaicml-streaming and Ray Data take part
if they are installed. The images are repeated, so that a pass takes seconds; all reads come from the page
cache.
"""

import argparse
import functools
import importlib.util
import io
import itertools
import os
import random
import resource
import shutil
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
import torchvision
import webdataset
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from cluster.environment import new_token
from cluster.session import session
from pipeline.papers.googlenet import recipes as googlenet
from pipeline.papers.vgg import recipes as vgg
from stages.augmentation import AreaCrop, Augmentation
from stages.load import images as decoded
from stages.load.augment.crops import training_crop
from stages.load.augment.draws import Draws
from stages.load.decode import decode
from stages.load.samples import Dataset
from stages.shard import shard
from stages.sources import TRAIN_ARCHIVE, open_source
from stages.tasks.classification.batches import training_batches

BATCH = 64
# torchvision's references/classification: random resized crop and mirror image.
RECIPE = Augmentation(
    resize=256,
    crop=224,
    sampling=AreaCrop(log_ratio=True),
    mean="channel",
    unit_variance=True,
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

FLOAT = torchvision.transforms.Compose(
    [
        torchvision.transforms.RandomResizedCrop(RECIPE.crop),
        torchvision.transforms.RandomHorizontalFlip(),
        torchvision.transforms.ToTensor(),
        torchvision.transforms.Normalize(MEAN, STD),
    ]
)
UINT8 = v2.Compose([v2.RandomResizedCrop(RECIPE.crop, antialias=True), v2.RandomHorizontalFlip()])


@dataclass(frozen=True)
class Data:
    """The same images in every format.

    Attributes:
        images: file names and bytes.
        originals, small: data sets of this project, the latter re-encoded at a short side of 256.
        folder: a folder with one subfolder per class.
        litdata, mds: folders in those libraries' own formats.
    """

    images: list[tuple[str, bytes]]
    originals: Path
    small: Path
    folder: Path
    litdata: Path
    mds: Path

    @functools.cached_property
    def shuffled(self) -> list[tuple[str, bytes]]:
        """The images in random order, each in its own memory, as a loader gets them."""
        images = [(name, bytes(bytearray(encoded))) for name, encoded in self.images]
        random.Random(0).shuffle(images)
        return images

    @property
    def shards(self) -> list[str]:
        return sorted(map(str, self.originals.glob("*train*.tar")))


def bytes_to_float(data: bytes) -> Tensor:
    return FLOAT(Image.open(io.BytesIO(data)).convert("RGB"))


def bytes_to_uint8(data: bytes) -> Tensor:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return UINT8(decode_jpeg(encoded, ImageReadMode.RGB))


def path_to_uint8(path: str) -> Tensor:
    return bytes_to_uint8(Path(path).read_bytes())


def batches_of(dataset: Any, shuffle: bool | None = None) -> Iterator[int]:
    for images, _ in DataLoader(dataset, BATCH, shuffle=shuffle, num_workers=1, prefetch_factor=4):
        yield len(images)


def bare_decode(data: Data) -> Iterator[int]:
    for start in range(0, len(data.shuffled), BATCH):
        batch = data.shuffled[start : start + BATCH]
        for name, encoded in batch:
            decode(encoded, name)
        yield len(batch)


def bare_decode_and_crop(data: Data) -> Iterator[int]:
    draws = Draws(0, 0, len(data.shuffled))
    for start in range(0, len(data.shuffled), BATCH):
        batch = data.shuffled[start : start + BATCH]
        for index, (name, encoded) in enumerate(batch, start=start):
            training_crop(decode(encoded, name), RECIPE, draws[index])
        yield len(batch)


def ours(
    root: Path,
    recipe: Augmentation = RECIPE,
    shuffle_buffer: int | None = None,
    device: torch.device | None = None,
) -> Iterator[int]:
    images = decoded.Images.to_train(Dataset(root).samples("train"), recipe, device)
    for batch in training_batches(
        images,
        recipe,
        batch_size=BATCH,
        seed=0,
        epoch=0,
        shuffle_buffer=shuffle_buffer,
        processes=1,
    ):
        yield len(batch.images)


def image_folder(data: Data, transform: Callable, load: Callable) -> Iterator[int]:
    dataset = torchvision.datasets.ImageFolder(str(data.folder), transform, loader=load)
    return batches_of(dataset, shuffle=True)


def web_dataset(data: Data, convert: Callable[[bytes], Tensor]) -> Iterator[int]:
    dataset = (
        webdataset.WebDataset(data.shards, shardshuffle=len(data.shards), empty_check=False)
        .shuffle(1000)
        .to_tuple("jpg;jpeg", "cls")
        .map_tuple(convert, int)
    )
    return batches_of(dataset)


def litdata(data: Data) -> Iterator[int]:
    from litdata import StreamingDataLoader, StreamingDataset

    class Crops(StreamingDataset):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            item = super().__getitem__(index)
            return bytes_to_uint8(item["image"]), item["label"]

    dataset = Crops(str(data.litdata), shuffle=True)
    for images, _ in StreamingDataLoader(dataset, batch_size=BATCH, num_workers=1):
        yield len(images)


def mosaicml_streaming(data: Data) -> Iterator[int]:
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    class Crops(StreamingDataset):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            item = super().__getitem__(index)
            return bytes_to_uint8(item["image"]), item["label"]

    clean_stale_shared_memory()
    return batches_of(Crops(local=str(data.mds), shuffle=True, batch_size=BATCH))


def ray_data(data: Data) -> Iterator[int]:
    """Ray Data runs on all CPUs it is given: one, like the others."""
    os.environ.setdefault("RAY_AUTH_TOKEN", new_token())  # Ray keeps the first token of a process
    with session():
        yield from _ray_batches(data)


def _ray_batches(data: Data) -> Iterator[int]:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.resource_limits = ray.data.ExecutionResources(cpu=1)

    def convert(row: dict[str, Any]) -> dict[str, Any]:
        (encoded,) = (row[key] for key in ("jpg", "jpeg") if key in row)
        return {"image": bytes_to_uint8(encoded).numpy()}

    rows = ray.data.read_webdataset(data.shards, decoder=None).map(convert)
    for batch in rows.iter_batches(batch_size=BATCH):
        yield len(batch["image"])


SYSTEMS: dict[str, Callable[[Data], Iterator[int]]] = {
    "bare loop: decode": bare_decode,
    "bare loop: decode and crop": bare_decode_and_crop,
    "this project": lambda data: ours(data.originals),
    "this project, shards in order": lambda data: ours(data.originals, shuffle_buffer=1),
    "this project, 256 px shards": lambda data: ours(data.small),
    "this project, VGG scale jitter": lambda data: ours(data.originals, vgg.augmentation(256, 512)),
    "this project, GoogLeNet": lambda data: ours(data.originals, googlenet.AUGMENTATION),
    "ImageFolder, float": lambda data: image_folder(
        data, FLOAT, torchvision.datasets.folder.default_loader
    ),
    "ImageFolder, uint8": lambda data: image_folder(data, lambda x: x, path_to_uint8),
    "webdataset, float": lambda data: web_dataset(data, bytes_to_float),
    "webdataset, uint8": lambda data: web_dataset(data, bytes_to_uint8),
}
PEERS = {
    "litdata": ("litdata, uint8", litdata),
    "streaming": ("mosaicml-streaming, uint8", mosaicml_streaming),
    "ray": ("Ray Data, uint8", ray_data),
}


def on_a_gpu(data: Data) -> Iterator[int]:
    """The loader with the GPU's decoder; images count once they are on the GPU."""
    for count in ours(data.originals, device=torch.device("cuda")):
        torch.cuda.synchronize()
        yield count


def possible_systems() -> dict[str, Callable[[Data], Iterator[int]]]:
    peers = {
        name: run for package, (name, run) in PEERS.items() if importlib.util.find_spec(package)
    }
    gpu = {"this project, decoded on the GPU": on_a_gpu} if torch.cuda.is_available() else {}
    return SYSTEMS | gpu | peers


def prepare(source: Path, folder: Path, repeat: int) -> Data:
    """Write the training images, ``repeat`` times each, in every format."""
    data = Data(
        images=[],
        **{name: folder / name for name in ("originals", "small", "folder", "litdata", "mds")},
    )
    labelled = []
    with tarfile.open(source / TRAIN_ARCHIVE) as outer:
        for label, synset in enumerate(sorted(outer.getnames())):
            with tarfile.open(fileobj=outer.extractfile(synset)) as inner:
                for member in inner:
                    file = inner.extractfile(member)
                    assert file is not None
                    encoded = file.read()
                    for k in range(repeat):
                        name = f"{Path(member.name).stem}{k:02}.JPEG"
                        labelled.append((name, encoded, label))
    data.images.extend((name, encoded) for name, encoded, _ in labelled)
    for name, encoded in data.images:
        path = data.folder / name.split("_")[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    for destination, convert in ((data.originals, lambda encoded: encoded), (data.small, shrink)):
        archive = folder / f"{destination.name}-archive"
        shutil.copytree(source, archive, ignore=shutil.ignore_patterns(TRAIN_ARCHIVE))
        write_archive(archive / TRAIN_ARCHIVE, data.images, convert)
        shard(open_source(archive), destination, shard_bytes=16 << 20)
    rows = [{"image": encoded, "label": label} for _, encoded, label in labelled]
    if importlib.util.find_spec("litdata"):
        from litdata.streaming.writer import BinaryWriter

        writer = BinaryWriter(str(data.litdata), chunk_bytes="16MB")
        for index, row in enumerate(rows):
            writer[index] = row
        writer.done()
        writer.merge()
    if importlib.util.find_spec("streaming"):
        from streaming import MDSWriter

        columns = {"image": "bytes", "label": "int"}
        with MDSWriter(out=str(data.mds), columns=columns, size_limit=16 << 20) as out:
            for row in rows:
                out.write(row)
    return data


def shrink(encoded: bytes) -> bytes:
    """Re-encode at a short side of 256."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    scale = 256 / min(image.size)
    small = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def write_archive(
    path: Path, images: list[tuple[str, bytes]], convert: Callable[[bytes], bytes]
) -> None:
    with tarfile.open(path, "w") as outer:
        for synset, members in groupby(images, key=lambda image: image[0].split("_")[0]):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for name, encoded in members:
                    add(inner, name, convert(encoded))
            add(outer, f"{synset}.tar", buffer.getvalue())


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))


@dataclass(frozen=True)
class Speed:
    """Images per second of processor time and of wall-clock time."""

    per_core: float
    wall: float


def measure(run: Callable[[Data], Iterator[int]], data: Data) -> Speed:
    """Measure from the second batch to the last.

    Processes start once per epoch, and ImageNet's epochs are long; and not every system makes the times of
    ended processes available.
    """
    batches = run(data)
    next(batches)
    before, started = processor_seconds(), time.perf_counter()
    images = sum(itertools.islice(batches, len(data.images) // BATCH - 1))
    speed = Speed(images / (processor_seconds() - before), images / (time.perf_counter() - started))
    for _ in batches:  # let it end in order
        pass
    return speed


def processor_seconds() -> float:
    """The processor time of this process and all that it started, including those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    times = [
        process.cpu_times()
        for process in (psutil.Process(), *psutil.Process().children(recursive=True))
    ]
    living = sum(t.user + t.system for t in times)
    return living + ended.ru_utime + ended.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder with the official archives")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=24, help="copies of each image")
    parser.add_argument("--only", action="append", help="only systems whose name contains this")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    decoded.KEEP_DECODED = 0  # as for a data set that does not fit into memory
    systems = {
        name: run
        for name, run in possible_systems().items()
        if not options.only or any(part in name for part in options.only)
    }
    speeds: dict[str, list[Speed]] = {name: [] for name in systems}
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(options.source, Path(folder), options.repeat)
        _ = data.shuffled  # created now, not while a loop is timed
        for _ in range(options.rounds):
            for name, run in systems.items():
                speeds[name].append(measure(run, data))
    report(speeds)


def report(speeds: dict[str, list[Speed]]) -> None:
    """Print a table with the ratios to the two reference systems.

    A ratio is taken within a round, because a machine's speed changes within minutes; medians over rounds.
    """
    references = [
        name for name in ("ImageFolder, float", "bare loop: decode and crop") if name in speeds
    ]
    columns = [
        "one process",
        "images/s and core",
        *(f"ratio to {name}" for name in references),
        "images/s",
    ]
    print(f"| {' | '.join(columns)} |")
    print("| --- " * len(columns) + "|")
    for name, rounds in speeds.items():
        ratios = [
            median(
                own.per_core / other.per_core
                for own, other in zip(rounds, speeds[reference], strict=True)
            )
            for reference in references
        ]
        cells = [
            name,
            f"{median(speed.per_core for speed in rounds):.0f}",
            *(f"{ratio:.2f}" for ratio in ratios),
            f"{median(speed.wall for speed in rounds):.0f}",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
