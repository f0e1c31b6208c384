"""A reader of Caffe's files: ``.caffemodel`` weights and ``.binaryproto`` mean images.

A ``.caffemodel`` is one NetParameter message in protobuf's wire format: fields one after another,
each a key, ``number << 3 | wire type``, and a value, which may itself be a message. These are the
fields that matter, numbered as in Caffe's schema (BVLC/caffe, src/caffe/proto/caffe.proto):

====================  ==========================================================================
NetParameter          layers = 2 (V1LayerParameter, until 2014), layer = 100 (LayerParameter)
LayerParameter        name = 1, type = 2, blobs = 7, convolution_param = 106
V1LayerParameter      name = 4, type = 5 (an enumeration), blobs = 6, convolution_param = 10
ConvolutionParameter  pad = 3, group = 5, stride = 6
BlobProto             data = 5 or double_data = 8; shape = 7, or num, channels, height, width = 1-4
BlobShape             dim = 1
====================  ==========================================================================

What the layers mean for our networks is in `models.pretrained.caffe`.
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from math import prod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class CaffeLayer:
    """One layer in a file.

    Attributes:
        name: as in the network's prototxt.
        type: e.g. ``"Convolution"``.
        blobs: its learned values, float32, in Caffe's order and shapes.
        geometry: pad, group and stride, as far as the file states them.
    """

    name: str
    type: str
    blobs: tuple[Tensor, ...]
    geometry: Mapping[str, int] = field(default_factory=dict)


class _Wire(IntEnum):
    VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5


class _Field(NamedTuple):
    number: int
    wire: int
    value: int  # of a varint
    start: int
    end: int


class _LayerNumbers(NamedTuple):
    name: int
    type: int
    blobs: int
    convolution: int


_V1, _V2 = _LayerNumbers(4, 5, 6, 10), _LayerNumbers(1, 2, 7, 106)
_V1_TYPES = {4: "Convolution", 14: "InnerProduct", 15: "LRN", 17: "Pooling", 18: "ReLU"}
_GEOMETRY = {3: "pad", 5: "group", 6: "stride"}


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for index in range(10):  # 64 bits, seven in a byte
        if at + index >= end:
            raise ValueError(f"the file ends within the number at byte {at}")
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError(f"the number at byte {at} does not end")


def _fields(data: memoryview, start: int, end: int) -> Iterator[_Field]:
    """The fields of the message between two offsets in the file."""
    at = start
    while at < end:
        first, value = at, 0
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        match wire:
            case _Wire.VARINT:
                value, stop = _varint(data, at, end)
            case _Wire.EIGHT_BYTES:
                stop = at + 8
            case _Wire.FOUR_BYTES:
                stop = at + 4
            case _Wire.BYTES:
                length, at = _varint(data, at, end)
                stop = at + length
            case _:
                raise ValueError(f"no field begins at byte {first}: wire type {wire}")
        if stop > end:
            raise ValueError(
                f"field {number} at byte {first} is {stop - at} bytes long, but {end - at} are left"
            )
        yield _Field(number, wire, value, at, stop)
        at = stop


def _integers(data: memoryview, whole: _Field) -> Iterator[int]:
    """The values of a repeated integer field, whether packed or a single one."""
    if whole.wire == _Wire.VARINT:
        yield whole.value
        return
    at = whole.start
    while at < whole.end:
        value, at = _varint(data, at, whole.end)
        yield value


def _blob(data: memoryview, start: int, end: int) -> Tensor:
    legacy: dict[int, int] = {}
    dims: list[int] = []
    floats, doubles = bytearray(), bytearray()
    for part in _fields(data, start, end):
        match part.number, part.wire:
            case ((1 | 2 | 3 | 4), _Wire.VARINT):
                legacy[part.number] = part.value
            case 7, _Wire.BYTES:
                for dim in _fields(data, part.start, part.end):
                    dims += _integers(data, dim)
            case 5, _Wire.BYTES | _Wire.FOUR_BYTES:
                floats += data[part.start : part.end]
            case 8, _Wire.BYTES | _Wire.EIGHT_BYTES:
                doubles += data[part.start : part.end]
    raw, dtype = (doubles, torch.float64) if doubles else (floats, torch.float32)
    shape = [legacy.get(number, 0) for number in (1, 2, 3, 4)] if legacy else dims
    if len(raw) != prod(shape) * dtype.itemsize:
        raise ValueError(
            f"the blob at byte {start} has {len(raw)} bytes of {dtype} for the shape {shape}"
        )
    flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0)
    return flat.float().reshape(shape)


def _layer(data: memoryview, start: int, end: int, numbers: _LayerNumbers) -> CaffeLayer:
    name = kind = ""
    blobs: list[Tensor] = []
    geometry: dict[str, int] = {}
    for part in _fields(data, start, end):
        match part.number, part.wire:
            case numbers.name, _Wire.BYTES:
                name = str(data[part.start : part.end], "utf-8", "replace")
            case numbers.type, _Wire.BYTES:
                kind = str(data[part.start : part.end], "utf-8", "replace")
            case numbers.type, _Wire.VARINT:
                kind = _V1_TYPES.get(part.value, f"V1 type {part.value}")
            case numbers.blobs, _Wire.BYTES:
                blobs.append(_blob(data, part.start, part.end))
            case numbers.convolution, _Wire.BYTES:
                for knob in _fields(data, part.start, part.end):
                    if knob.number in _GEOMETRY:
                        for value in _integers(data, knob):
                            geometry[_GEOMETRY[knob.number]] = value
    return CaffeLayer(name, kind, tuple(blobs), geometry)


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        if not file.seek(0, 2):
            raise ValueError(f"{path} is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def read_caffemodel(path: Path) -> list[CaffeLayer]:
    """All layers of a file, in its order, including those without weights.

    The file is mapped and each blob copied once, so the weights are all the memory it needs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or not a caffemodel; the message names the byte.
    """
    data, layers = _mapped(path), []
    try:
        for part in _fields(data, 0, len(data)):
            if part.number in (2, 100) and part.wire == _Wire.BYTES:
                numbers = _V1 if part.number == 2 else _V2
                layers.append(_layer(data, part.start, part.end, numbers))
    except ValueError as error:
        raise ValueError(f"{path} is truncated or not a caffemodel: {error}") from error
    if not any(layer.blobs for layer in layers):
        raise ValueError(f"{path} holds no layer with weights: not a caffemodel, or one from 2013")
    return layers


def read_mean_image(path: Path) -> Tensor:
    """The mean image of a ``.binaryproto`` file (one BlobProto), (3, H, W), in RGB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated or not the mean of colour images.
    """
    data = _mapped(path)
    try:
        mean = _blob(data, 0, len(data)).squeeze(0)
    except ValueError as error:
        raise ValueError(f"{path} is truncated or not a mean image: {error}") from error
    if mean.dim() != 3 or len(mean) != 3:
        raise ValueError(f"{path} holds a blob of shape {tuple(mean.shape)}, not (3, H, W)")
    return mean.flip(0)
