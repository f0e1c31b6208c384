"""A tree of files, whether it lies unpacked in a folder or in one or several tars of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stages.errors import PipelineError
from stages.sources.locations import Location, Span, WholeFile
from stages.sources.source import FETCH_AGAIN
from stages.sources.tars import files, open_tar
from stages.storage import Folder

# Small texts are read in the one pass that finds a tar's members: apart, each would be a request to an
# object store.
_TEXTS = (".xml", ".txt")
_LARGEST_TEXT = 1 << 20


@dataclass(frozen=True)
class Tree:
    """Files by their paths.

    Attributes:
        where: the tree's place, for messages.
        files: of all kinds; those whose names start with a dot are left out.
        texts: the content of those that were read already.
    """

    where: str
    files: Mapping[str, Location]
    texts: Mapping[str, bytes]

    def below(self, folder: str) -> dict[str, Location]:
        """The files directly in a sub-folder, by their names."""
        start = f"{folder}/"
        inside = {path.removeprefix(start): path for path in self.files if path.startswith(start)}
        return {name: self.files[path] for name, path in inside.items() if "/" not in name}

    def read(self, path: str, limit: int = _LARGEST_TEXT) -> bytes:
        """A file's content.

        Raises:
            PipelineError: it is missing, damaged, or longer than ``limit`` bytes.
        """
        if path in self.texts:
            return self.texts[path]
        if path not in self.files:
            raise PipelineError(f"{self.where} has no {path}", FETCH_AGAIN)
        size = self.files[path].size
        if size > limit:
            raise PipelineError(f"{path!r} in {self.where} has {size:,} bytes", FETCH_AGAIN)
        return self.files[path].read()


def unpacked_tree(folder: Folder, tops: Iterable[str]) -> Tree:
    """The files below some sub-folders of a folder."""
    locations = {
        file: WholeFile(folder, file, size)
        for top in tops
        for file, size in folder.list(top).items()
    }
    return Tree(str(folder), locations, {})


def packed_tree(folder: Folder, tars: Iterable[str]) -> Tree:
    """The files in some tars of a folder; of one path in several, the first tar's.

    Raises:
        PipelineError: a tar is damaged.
    """
    names = list(tars)
    locations: dict[str, Location] = {}
    texts: dict[str, bytes] = {}
    for name in names:
        with open_tar(folder, name) as archive:
            for member in archive:
                path = member.name.removeprefix("./")
                if path.endswith(_TEXTS) and member.isreg() and member.size <= _LARGEST_TEXT:
                    content = archive.extractfile(member)
                    assert content is not None
                    texts.setdefault(path, content.read())
            for member in files(archive, f"{folder}/{name}"):
                path = member.name.removeprefix("./")
                if not path.rsplit("/", 1)[-1].startswith("."):
                    location = Span(folder, name, member.offset_data, member.size)
                    locations.setdefault(path, location)
    return Tree(f"{folder}/{names[0]}" if len(names) == 1 else str(folder), locations, texts)
