"""The legend below a segmented image: swatch, name and share of each class. Drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

__all__ = ["LegendEntry", "with_legend"]

_BACKGROUND = (255, 255, 255)
_TEXT = (25, 25, 25)
_RIM = (90, 90, 90)
_LONGEST_NAME = 40  # characters


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend.

    Attributes:
        name: Name of the class; longer ones are shortened to 40 characters.
        share: Fraction of the image's pixels, 0 to 1.
        color: RGB of the swatch.
        swatch: Draws the swatch instead of a plain colour, given its height and width.
    """

    name: str
    share: float
    color: tuple[int, int, int] | None = None
    swatch: Callable[[int, int], Image.Image] | None = None


def with_legend(image: Image.Image, entries: Sequence[LegendEntry]) -> Image.Image:
    """The image with a strip below it that names its colours.

    The text scales with the image but never becomes too small to read, so below a small image the strip can be wider
    than the image. The image itself is not changed; it sits at the upper left.

    Args:
        image: RGB.
        entries: In drawing order, column by column.
    """
    if not entries:
        return image
    size = min(max(12, round(math.sqrt(image.width * image.height) / 48)), 64)
    font = ImageFont.load_default(size)
    texts = [f"{_short(entry.name)}  {_percent(entry.share)}" for entry in entries]
    margin, row = size // 2, round(size * 1.5)
    swatch = (round(size * 1.6), size)
    column = swatch[0] + margin + math.ceil(max(font.getlength(text) for text in texts)) + 2 * margin
    columns = min(len(entries), max(1, (image.width - margin) // column))
    rows = math.ceil(len(entries) / columns)
    columns = math.ceil(len(entries) / rows)  # no empty column at the end
    width = max(image.width, margin + columns * column)
    sheet = Image.new("RGB", (width, image.height + rows * row + margin), _BACKGROUND)
    sheet.paste(image, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for i, (text, entry) in enumerate(zip(texts, entries, strict=True)):
        x = margin + i // rows * column
        y = image.height + margin + i % rows * row
        if entry.swatch:
            sheet.paste(entry.swatch(swatch[1], swatch[0]), (x, y))
        draw.rectangle((x, y, x + swatch[0] - 1, y + swatch[1] - 1), fill=entry.color, outline=_RIM)
        draw.text((x + swatch[0] + margin, y + size // 2), text, fill=_TEXT, font=font, anchor="lm")
    return sheet


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "< 1 %"
