"""Image augmentation for segmentation: geometry, photometric distortion, and a simple model of a camera at night.

All functions draw from the generator that they are given, so a sample depends on (seed, epoch, index) alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from PIL import Image

from zoo.training.settings import Fraction, Range

__all__ = ["Augmentation", "distort", "low_light", "photometric", "resize_crop_flip", "sample_generator"]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation settings.

    Attributes:
        scale: Range of the random resize factor, drawn log-uniformly.
        flip: Probability of a horizontal flip.
        photometric: Strength of the changes in brightness, contrast, saturation, gamma and colour cast; 0 disables
            them, 1 is the usual strength.
        low_light: Probability of the night-camera model, which darkens and tints the image and adds lamps and noise.
        degrade: Probability of each of blur, haze and JPEG artefacts.
        distorted: Share of the samples to which the three settings above apply; the others keep their pixel values.
    """

    scale: Annotated[tuple[float, float], Range(at_least=0.05, at_most=20)] = (0.5, 2.0)
    flip: Fraction = 0.5
    photometric: Annotated[float, Range(at_least=0, at_most=5)] = 1.0
    low_light: Fraction = 0.0
    degrade: Fraction = 0.0
    distorted: Fraction = 1.0

    def conflicts(self) -> Iterator[str]:
        """Incompatible values."""
        if self.scale[0] > self.scale[1]:
            yield f"--scale {self.scale[0]} {self.scale[1]}: expected the smaller value first"


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Random generator of one sample, independent of the machine and the number of workers."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch, index]))


def resize_crop_flip(
    image: np.ndarray,
    labels: np.ndarray | None,
    crop: tuple[int, int],
    settings: Augmentation,
    generator: np.random.Generator,
    ignore_index: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Resizes, crops and flips an image and its labels at random.

    Args:
        image: `(H, W, C)`, uint8.
        labels: `(H, W)` uint8, or `None`.
        crop: (height, width) of the result. An image that is smaller after the resize is padded with roughly its mean
            colour, its labels with `ignore_index`.
        settings: Scale range and flip probability.
        generator: Random generator.
        ignore_index: Label of the padding.

    Returns:
        `(*crop, C)` uint8 image and `(*crop,)` uint8 labels, or `None` for the labels if none were given.
    """
    height, width = image.shape[:2]
    scale = float(np.exp(generator.uniform(*np.log(settings.scale))))
    stretch = float(np.exp(generator.uniform(-0.08, 0.08)))
    view = [crop[0] / scale * stretch, crop[1] / scale / stretch]  # (height, width) of the crop in image pixels
    top, left = (
        generator.uniform(min(0.0, side - part), max(0.0, side - part))
        for side, part in zip((height, width), view, strict=True)
    )
    # The view may extend beyond the image: its visible part fills a rectangle of the crop and the rest is padding.
    y0, x0 = max(0.0, top), max(0.0, left)
    y1, x1 = min(height, top + view[0]), min(width, left + view[1])
    rows = round((y0 - top) / view[0] * crop[0]), round((y1 - top) / view[0] * crop[0])
    columns = round((x0 - left) / view[1] * crop[1]), round((x1 - left) / view[1] * crop[1])
    target = (max(1, columns[1] - columns[0]), max(1, rows[1] - rows[0]))
    box = (x0, y0, x1, y1)
    out_image = np.empty((*crop, image.shape[2]), np.uint8)
    out_image[:] = image[::8, ::8].mean(axis=(0, 1)).astype(np.uint8)
    out_labels = None if labels is None else np.full(crop, ignore_index, np.uint8)
    place = (slice(rows[0], rows[0] + target[1]), slice(columns[0], columns[0] + target[0]))
    out_image[place] = np.asarray(Image.fromarray(image).resize(target, Image.Resampling.BILINEAR, box=box))
    if labels is not None and out_labels is not None:
        out_labels[place] = np.asarray(Image.fromarray(labels).resize(target, Image.Resampling.NEAREST, box=box))
    if generator.random() < settings.flip:
        out_image = out_image[:, ::-1]
        out_labels = None if out_labels is None else out_labels[:, ::-1]
    return out_image, out_labels


def photometric(image: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Changes brightness, contrast, saturation, gamma and colour cast at random.

    Args:
        image: `(H, W, 3)` float32 RGB in [0, 1].
        strength: 0 leaves the image unchanged, 1 is the usual strength.
        generator: Random generator.
    """
    gamma, gain, contrast, saturation = np.exp(generator.uniform(-1, 1, 4) * strength * np.array([0.45, 0.3, 0.3, 0.5]))
    cast = np.exp(generator.normal(0, 0.08 * strength, 3)).astype(np.float32)
    image = np.power(np.clip(image, 0, 1), np.float32(gamma)) * cast
    mean = image.mean()
    image = (image - mean) * np.float32(contrast) + mean * np.float32(gain)
    grey = image.mean(axis=2, keepdims=True)
    return np.clip(grey + (image - grey) * np.float32(saturation), 0, 1)


def low_light(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Simulates a camera at dusk or night: less light, a colour cast, a few lamps, shot noise and read noise.

    Args:
        image: `(H, W, 3)` float32 RGB in [0, 1], assumed to be gamma-encoded with gamma 2.2.
        generator: Random generator.
    """
    height, width = image.shape[:2]
    linear = np.power(np.clip(image, 0, 1), np.float32(2.2))
    exposure = np.exp(generator.uniform(np.log(0.06), np.log(0.7)))
    tint = np.exp(generator.normal(0, 0.15, 3)) * np.array([1.05, 1.0, 0.95])
    # At night the sky stays brighter than the street, so the image darkens towards the bottom by a random amount.
    fall = np.exp(-generator.uniform(0, 2.0) * np.linspace(0, 1, height) ** generator.uniform(0.5, 2))
    linear = linear * (exposure * tint).astype(np.float32) * fall[:, None, None].astype(np.float32)
    if generator.random() < 0.5:
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        for _ in range(generator.integers(1, 6)):
            cy, cx = generator.uniform(0.1, 0.8) * height, generator.uniform(0, 1) * width
            radius = np.exp(generator.uniform(np.log(0.01), np.log(0.12))) * width
            glow = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2))
            warm = np.array([1.0, generator.uniform(0.7, 1), generator.uniform(0.3, 1)], np.float32)
            linear = linear + glow[..., None] * warm * np.float32(generator.uniform(0.02, 0.5))
    full_well = np.exp(generator.uniform(np.log(500), np.log(20000)))  # electrons at white
    noise = np.sqrt(np.maximum(linear, 0) / full_well + np.exp(generator.uniform(np.log(1e-8), np.log(1e-5))))
    linear = linear + noise.astype(np.float32) * generator.standard_normal(image.shape, np.float32)
    # The camera's gain restores part of the brightness and amplifies the noise.
    gain = min(1 / max(float(linear.mean()), 1e-3) * generator.uniform(0.02, 0.15), 8.0)
    return np.power(np.clip(linear * np.float32(max(gain, 1.0)), 0, 1), np.float32(1 / 2.2))


def _degrade(image: np.ndarray, probability: float, generator: np.random.Generator) -> np.ndarray:
    if generator.random() < probability:  # blur by a smaller copy
        factor = generator.uniform(1.2, 2.5)
        height, width = image.shape[:2]
        small = Image.fromarray(image).resize((int(width / factor), int(height / factor)), Image.Resampling.BILINEAR)
        image = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    if generator.random() < probability:
        amount = generator.uniform(0.1, 0.6)
        ramp = np.linspace(1, generator.uniform(0, 1), image.shape[0])[:, None, None]
        haze = generator.uniform(120, 255) + generator.normal(0, 8, 3)
        image = (image + (haze - image) * amount * ramp).clip(0, 255).astype(np.uint8)
    if generator.random() < probability:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(generator.integers(25, 90)))
        image = np.asarray(Image.open(buffer))
    return image


def distort(image: np.ndarray, settings: Augmentation, generator: np.random.Generator) -> np.ndarray:
    """Applies the photometric distortions in `settings` to an `(H, W, 3)` uint8 image."""
    if settings.distorted < 1 and generator.random() >= settings.distorted:
        return image
    values = image.astype(np.float32) / 255
    if generator.random() < settings.low_light:
        values = low_light(values, generator)
    if settings.photometric > 0:
        values = photometric(values, settings.photometric, generator)
    image = np.rint(values * 255).astype(np.uint8)
    return _degrade(image, settings.degrade, generator)
