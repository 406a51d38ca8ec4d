"""Frames as the folders and files of real data sets, one module per data set.

Every module has `RIG`, `DEFAULT_SIZE`, `files`, `record` and `closing_files`, as described by `Layout`. A run writes
the `files` of each frame and stores its `record`. When all frames are done it writes `closing_files`, the lists and
tables over the whole data set, from the records; so a resumed run renders only frames whose record or files are
missing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from zoo.condition import Condition
from zoo.frame import Frame
from zoo.synthetic.scene.types import Scene

__all__ = ["Files", "Layout", "Place", "Record", "Rendered", "no_closing_files", "no_record", "png", "reader_of"]

_CLEAR = Condition()
Files = dict[str, Callable[[], bytes]]
"""Relative path of each file, and a function that returns its content."""

Record = Mapping[str, Any]
"""What `closing_files` needs to know about one frame: values that survive JSON exactly."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which frame of the data set this is.

    Attributes:
        split: `train`, `val` or `test`; `test` is written without labels.
        seed: Of the place in the synthetic world.
        sequence: Number of the place, from 0.
        number: Of the frame in its place, from 0.
        index: Of the frame in the data set, from 0.
        count: Frames of its place.
        size: (height, width) of the images; `None`: the rig's own.
        condition: Light and weather of the frame.
        kind: Of the place (`scene.kinds.PLACE_KINDS`), where that is known.
        extras: Further files to write, of the layout's `EXTRAS`.
    """

    split: str
    seed: int
    sequence: int
    number: int
    index: int
    count: int
    size: tuple[int, int] | None = None
    condition: Condition = _CLEAR
    kind: str = ""
    extras: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A frame, and what a layout needs to know beyond it.

    Attributes:
        frame: What the sensors of the layout's rig took.
        scene: The place: paint on the road and the map are finer than the frame's labels.
        reference: The same moment in clear weather, for layouts that want it.
    """

    frame: Frame
    scene: Scene
    reference: Frame | None = None


class Layout(Protocol):
    """What the module of a layout provides."""

    RIG: str
    """Sensor rig that its frames must come from."""
    DEFAULT_SIZE: tuple[int, int]
    """(height, width) of the real data set's images."""
    EXTRAS: tuple[str, ...]
    """What it writes on request, of the names in `layouts.extras`."""

    def files(self, rendered: Rendered | None, place: Place) -> Files:
        """Every file that belongs to one frame. `rendered` is None where only the paths are wanted; those that depend
        on the frame are missing then."""

    def record(self, rendered: Rendered, place: Place) -> Record:
        """What `closing_files` needs of this frame; the same from one run to the next."""

    def closing_files(self, records: Sequence[tuple[Place, Record]]) -> Files:
        """Files over several frames or the whole data set; `records` of all frames, ordered by `Place.index`."""


def no_record(rendered: Rendered, place: Place) -> Record:
    """`Layout.record` of a layout without files over several frames."""
    return {}


def no_closing_files(records: Sequence[tuple[Place, Record]]) -> Files:
    """`Layout.closing_files` of such a layout."""
    return {}


def png(image: np.ndarray) -> bytes:
    """A PNG file of `image`, `(H, W)` or `(H, W, 3)` uint8."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def reader_of(rendered: Rendered | None) -> Callable[[Callable[[Rendered], bytes]], Callable[[], bytes]]:
    """Turns a function of a rendered frame into one without arguments; with None its result must not be asked for."""

    def of(content: Callable[[Rendered], bytes]) -> Callable[[], bytes]:
        def read() -> bytes:
            assert rendered is not None
            return content(rendered)

        return read

    return of
