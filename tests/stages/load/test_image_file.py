"""How large an image may be, whatever the limit that other code of the process has set."""

import struct
import zlib

import pytest
from PIL import Image

from stages.errors import PipelineError
from stages.load.image_file import MOST_PIXELS, open_image
from stages.shard.quality import RefusedError, prepare


def header_of_a_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""
    size = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [struct.pack(">I", 13) + size + struct.pack(">I", zlib.crc32(size))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + struct.pack(">I", 0) + b"IDAT"


@pytest.mark.parametrize("limit", [None, 1000, Image.MAX_IMAGE_PIXELS])
def test_the_limit_of_pixels_is_our_own(monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    """Pillow refuses at twice its own limit, so that a lower one is not overruled."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    side = int(MOST_PIXELS**0.5)
    if limit != 1000:
        assert open_image(header_of_a_png(side, side), "x.png").size == (side, side)
    for width in (side + 1, 3 * side):
        large = header_of_a_png(width, side)
        with pytest.raises(PipelineError, match=r"x\.png is not a readable image"):
            open_image(large, "x.png")
        with pytest.raises(RefusedError, match="too large"):
            prepare(large, "x.png")
    assert limit == Image.MAX_IMAGE_PIXELS


def test_what_is_not_an_image_is_refused() -> None:
    with pytest.raises(PipelineError, match="not a readable image") as raised:
        open_image(b"nothing", "x.jpg")
    assert "fetch the archive again" in raised.value.fix
