"""What predictors return, one dataclass per task."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from zoo.classes import ClassTable
from zoo.errors import InputError
from zoo.frame import Axis

__all__ = ["Features", "Segmentation2D", "Segmentation3D", "fractions_of"]


@dataclass(frozen=True)
class Features:
    """Features of one sample.

    Attributes:
        levels: `(C, h, w)` float32 for each level of an image encoder, finest first; `(N, C)` for points.
    """

    levels: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Segmentation2D:
    """A class for every pixel of one image, at the image's own size.

    Attributes:
        labels: `(H, W)` uint8 class labels.
        scores: `(H, W)` float32 in [0, 1], the softmax probability of the label; `None` from a model of another project
            that returns labels only.
        classes: Names and colours of the classes.
        image: `(H, W, 3)` uint8 RGB, the segmented image.
    """

    labels: np.ndarray
    scores: np.ndarray | None
    classes: ClassTable
    image: np.ndarray

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, indexed by label."""
        return self.classes.names

    @property
    def colors(self) -> tuple[tuple[int, int, int], ...]:
        """RGB of each class, 0 to 255, indexed by label."""
        return self.classes.colors

    @property
    def color_map(self) -> np.ndarray:
        """`(H, W, 3)` uint8 RGB: each pixel in the colour of its class, black where it has none."""
        return self.classes.palette()[self.labels]

    def fractions(self) -> dict[str, float]:
        """Fraction of the image covered by each class that occurs, largest first."""
        return fractions_of(self.labels, self.classes)

    def overlay(self, alpha: float = 0.55, legend: bool = False) -> Image.Image:
        """The image blended with the colours of its classes. Pixels without a class are hatched.

        Args:
            alpha: Weight of the colours, 0 to 1.
            legend: Outline each region in its full colour and add a strip below the image with the name, colour and
                share of each class that occurs.

        Returns:
            An RGB image of the original size. With `legend` it is taller, and wider too if the image is narrower than
            the longest entry.

        Raises:
            InputError: If `alpha` is outside 0 to 1.
        """
        if not 0.0 <= alpha <= 1.0:
            raise InputError(f"alpha {alpha} is outside 0 to 1")
        colors = Image.fromarray(self.labels)
        colors.putpalette(self.classes.palette().ravel().tolist())
        colors = colors.convert("RGB")
        unlabelled = self.labels >= len(self.classes)
        if unlabelled.any():
            colors.paste(_hatch(*self.labels.shape), mask=_mask(unlabelled))
        picture = Image.blend(Image.fromarray(self.image), colors, alpha)
        if not legend:
            return picture
        from zoo.legend import LegendEntry, with_legend  # draws text, which `import zoo` does not need

        # Mixed with the image, a colour no longer looks like its swatch in the legend. The outlines do, and they set a
        # grey class off from a grey scene.
        picture.paste(colors, mask=_mask(_outlines(self.labels, max(1, round(math.sqrt(self.labels.size) / 700)))))
        color = dict(zip(self.class_names, self.colors, strict=True))
        entries = [LegendEntry(name, share, color=color[name]) for name, share in self.fractions().items()]
        if unlabelled.any():
            entries.append(LegendEntry("no class", float(unlabelled.mean()), swatch=_hatch))
        return with_legend(picture, entries)


@dataclass(frozen=True)
class Segmentation3D:
    """A class for every point of one sweep, in the order of its points.

    Attributes:
        labels: `(N,)` uint8 class labels.
        scores: `(N,)` float32 in [0, 1], the softmax probability of the label.
        classes: Names and colours of the classes.
        points: `(N, C)` float32, the segmented points as the model gets them: xyz in metres first.
        axes: Axes of the points that point forward, to the left and up.
    """

    labels: np.ndarray
    scores: np.ndarray
    classes: ClassTable
    points: np.ndarray
    axes: tuple[Axis, Axis, Axis] = ("+x", "+y", "+z")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, indexed by label."""
        return self.classes.names

    @property
    def colors(self) -> np.ndarray:
        """`(N, 3)` uint8 RGB of each point's class."""
        from zoo.point_pictures import labelled_colors

        return labelled_colors(self.labels, self.classes.palette())

    def fractions(self) -> dict[str, float]:
        """Fraction of the points in each class that occurs, largest first."""
        return fractions_of(self.labels, self.classes)

    def bird_view(self, pixels: int = 800, extent_m: float = 50.0) -> Image.Image:
        """The points from above in the colours of their classes: forward is up, the sensor is in the middle.

        Args:
            pixels: Side of the picture.
            extent_m: Distance from the sensor to the edges.
        """
        from zoo.point_pictures import bird_view

        return Image.fromarray(bird_view(self.upright, self.colors, pixels=pixels, extent_m=extent_m))

    def range_view(self) -> Image.Image:
        """The points as the sensor sees them, in the colours of their classes; straight ahead is in the middle."""
        from zoo.point_pictures import range_view

        return Image.fromarray(range_view(self.upright, self.colors))

    def picture(self) -> Image.Image:
        """`range_view` above `bird_view`, with a legend."""
        from zoo.legend import LegendEntry, with_legend

        sensor, above = self.range_view(), self.bird_view()
        sheet = Image.new("RGB", (max(sensor.width, above.width), sensor.height + above.height), (18, 18, 22))
        sheet.paste(sensor, ((sheet.width - sensor.width) // 2, 0))
        sheet.paste(above, ((sheet.width - above.width) // 2, sensor.height))
        color = dict(zip(self.classes.names, self.classes.colors, strict=True))
        return with_legend(
            sheet, [LegendEntry(name, share, color=color[name]) for name, share in self.fractions().items()]
        )

    @property
    def upright(self) -> np.ndarray:
        """`(N, 3)` coordinates in metres: forward, left, up."""
        from zoo.sensors import component

        return np.column_stack([component(self.points.T, axis) for axis in self.axes])


def fractions_of(labels: np.ndarray, classes: ClassTable) -> dict[str, float]:
    """Fraction of the labels in each class that occurs, largest first."""
    counts = np.bincount(labels.ravel(), minlength=len(classes))[: len(classes)]
    order = np.argsort(-counts, kind="stable")
    return {classes.names[i]: float(counts[i] / labels.size) for i in order if counts[i]}


def _mask(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.view(np.uint8) * 255)


def _hatch(height: int, width: int) -> Image.Image:
    """Black and white diagonal stripes."""
    rows, columns = np.ogrid[:height, :width]
    period = max(6, min(height, width) // 40)
    return _mask((rows + columns) % period < period // 2).convert("RGB")


def _outlines(labels: np.ndarray, width: int) -> np.ndarray:
    """`(H, W)` bool: the pixels less than `width` pixels away from another label, by rows and columns."""
    near = np.zeros(labels.shape, bool)
    for step in range(1, width + 1):
        for edge, first, second in (
            (labels[step:] != labels[:-step], near[step:], near[:-step]),
            (labels[:, step:] != labels[:, :-step], near[:, step:], near[:, :-step]),
        ):
            first |= edge
            second |= edge
    return near
