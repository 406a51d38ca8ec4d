"""Where a place's own camera sits, and what lens, sensor and file format do to radiance.

The order is that of a real camera: light is metered and exposed, the lens spreads it (bloom, veil, vignetting, blur),
the sensor adds noise, the processor applies a tone curve, saturation and sharpening, and the file is a JPEG.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from zoo.geometry.cameras import VEHICLE_FROM_OPTICAL, intrinsics_from_fov
from zoo.geometry.transforms import pitch_matrix, pose, roll_matrix, yaw_matrix
from zoo.synthetic.rendering.light import Light
from zoo.synthetic.scene.types import CameraSpec, Optics

__all__ = ["ego_from_camera", "enlarged", "intrinsics_of", "take_picture"]

_LUMINANCE = np.array([0.25, 0.6, 0.15], np.float32)


def intrinsics_of(spec: CameraSpec, size: tuple[int, int]) -> np.ndarray:
    """`(3, 3)` pixels for `size` (height, width)."""
    return intrinsics_from_fov(spec.fov_deg, size)


def ego_from_camera(spec: CameraSpec) -> np.ndarray:
    """`(4, 4)` from camera axes (x right, y down, z forward) to ego axes (x forward, y left, z up)."""
    yaw, pitch, roll = np.radians([spec.yaw_deg, spec.pitch_deg, spec.roll_deg])
    # A place's pitch is positive upwards, a rotation about y is positive downwards.
    turn = yaw_matrix(yaw) @ pitch_matrix(-pitch) @ roll_matrix(roll)
    return pose(turn @ VEHICLE_FROM_OPTICAL, (spec.forward_m, spec.left_m, spec.height_m))


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """`(H, W, C)` float32 after a Gaussian of `sigma` pixels; what lies outside equals the nearest pixel."""
    if sigma <= 0.05:
        return image
    radius = max(1, int(np.ceil(2.5 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2).astype(np.float32)
    kernel = kernel[kernel > 0.004 * kernel[0]]  # fainter taps are less than a grey level
    radius = len(kernel) - 1
    kernel /= kernel[0] + 2 * kernel[1:].sum()
    for axis in (0, 1):
        length = image.shape[axis]
        pad = [(radius, radius) if k == axis else (0, 0) for k in range(3)]
        padded = np.pad(image, pad, mode="edge")
        shifted = [padded[k : k + length] if axis == 0 else padded[:, k : k + length] for k in range(2 * radius + 1)]
        image = shifted[radius] * kernel[0]
        for k in range(1, radius + 1):
            pair = shifted[radius + k] + shifted[radius - k]
            pair *= kernel[k]
            image += pair
    return image


def _bloom(image: np.ndarray, amount: float, threshold: float = 1.0) -> np.ndarray:
    """The light of very bright pixels spreads over their surroundings; computed on a quarter of the size."""
    h, w = image.shape[:2]
    hh, ww = h // 4 * 4, w // 4 * 4
    if amount <= 0 or hh < 8 or ww < 8 or image.max() <= threshold:
        return image
    bright = np.clip(image[:hh, :ww] - np.float32(threshold), 0, 40)
    rows = bright.reshape(hh // 4, 4, ww * 3).sum(1)  # row by row is four times as fast as both axes at once
    small = rows.reshape(hh // 4, ww // 4, 4, 3).sum(2) / np.float32(16)
    wide = 0.6 * _blur(small, 1.2) + 0.3 * _blur(small, 4.0) + 0.1 * _blur(small, 10.0)
    return image + np.float32(amount) * enlarged(wide, 4, (h, w))


def enlarged(small: np.ndarray, times: int, size: tuple[int, int]) -> np.ndarray:
    """`(H, W, 3)` from a `times` smaller picture, linear between its pixel centres."""
    for axis, length in enumerate(size):
        place = np.clip((np.arange(length) + 0.5) / times - 0.5, 0, small.shape[axis] - 1)
        low = np.minimum(place.astype(int), max(small.shape[axis] - 2, 0))
        high = np.minimum(low + 1, small.shape[axis] - 1)
        part = (place - low).astype(np.float32)[(slice(None),) + (None,) * (2 - axis)]
        below = small.take(low, axis)
        small = below + (small.take(high, axis) - below) * part
    return small


@lru_cache(maxsize=1)
def _normals() -> np.ndarray:
    return np.random.default_rng(99).standard_normal(1 << 21, np.float32)


def _grain(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Unit normal noise, cut out of one long row at a random place: drawing it anew for each picture is slow."""
    count = int(np.prod(shape))
    row = _normals()
    start = int(rng.integers(len(row)))
    return np.take(row, np.arange(start, start + count), mode="wrap").reshape(shape)


def _tone_table(optics: Optics) -> np.ndarray:
    """Brightness of the picture for 4096 steps of the square root of exposure, 0 to 4."""
    x = (np.linspace(0, 2, 4096) ** 2) * 1.0
    # Cameras that protect highlights have a soft shoulder towards white; those that expose for the street clip.
    hard = 3 + 12 * (1 - optics.highlights)
    x = x / (1 + x**hard) ** (1 / hard) * 1.02
    x = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-6) ** (1 / 2.4) - 0.055)  # sRGB
    x = np.clip(x, 0, 1) ** optics.gamma
    return (np.clip(0.5 + (x - 0.5) * optics.contrast, 0, 1) * 0.6 + x * 0.4).astype(np.float32)


def take_picture(
    radiance: np.ndarray, optics: Optics, light: Light, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A picture of `(H, W, 3)` radiance in lux: exposure, glare, vignetting, blur, noise, tone curve, compression.

    Returns:
        `(H, W, 3)` uint8, and `(H, W)` bool: pixels whose light does not exceed the sensor's own noise.
    """
    height, width = radiance.shape[:2]
    image = radiance.astype(np.float32)
    image *= _exposure(image, optics, light) * np.asarray(optics.white_balance, np.float32)  # 1: white
    image = _bloom(image, 0.05 + 0.35 * optics.flare + (0.12 if light.lamp else 0))
    veil = optics.flare * image.mean((0, 1)) * 0.5 + optics.black * light.target
    image += veil.astype(np.float32)
    down, across = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    image *= (1 - np.float32(optics.vignetting * 0.5) * (down[:, None] ** 2 + across**2))[..., None]
    # `blur_px` holds for pictures 512 pixels wide; larger ones are blurred more, but less than in proportion.
    image = _blur(image, optics.blur_px * (max(height, width) / 512) ** 0.5)
    image, dark = _with_noise(image, optics.noise * light.gain / 255, rng)
    # The table is in the square root of the exposure: even steps there are close to even steps in brightness.
    steps = np.sqrt(np.maximum(image, 0)) * np.float32(4095 / 2)
    image = _tone_table(optics).take(np.minimum(steps, 4095).astype(np.int32))
    grey = image @ np.full((3, 1), 1 / 3, np.float32)
    image = grey + (image - grey) * np.float32(optics.saturation)
    if optics.sharpen:
        image = image + optics.sharpen * (image - _blur(image, 0.8))  # unsharp mask
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=optics.jpeg_quality)
    return np.asarray(Image.open(buffer).convert("RGB")), dark


def _exposure(image: np.ndarray, optics: Optics, light: Light) -> float:
    """What radiance is multiplied by: metered on the street, on highlights, or between the two.

    The top quarter of the picture is mostly sky, so street metering leaves it out. The logarithmic mean keeps a few
    lamps from dominating at night. In the dark even a camera that exposes for the street protects its highlights.
    """
    luminance = image[::2, ::2] @ _LUMINANCE  # a quarter of the pixels is enough for means
    street = luminance[len(luminance) // 4 :]
    usual = 0.6 * float(np.exp(np.log(street + 1e-3).mean())) + 0.25 * float(np.percentile(street, 90))
    bright = 0.33 * float(np.percentile(luminance, 97))
    highlights = optics.highlights if light.target > 0.17 else 0.5 + 0.5 * optics.highlights
    highlights = highlights**1.5
    metered = usual ** (1 - highlights) * max(bright, usual) ** highlights
    return 1.05 * light.target * 2**optics.exposure_ev / (metered + 1e-6)


def _with_noise(image: np.ndarray, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shot noise, which grows with the root of the light, and read noise, which does not; and where it is too dark."""
    read, shot = np.float32(noise * 0.35), np.float32(noise * 0.7)
    grain = _grain(image.shape, rng)
    # Part of the noise is common to all channels: grey grain, not only coloured. The shift makes it another sample.
    grain = 0.7 * grain + 0.5 * np.roll(grain[..., :1], 7, axis=0)
    dark = image @ _LUMINANCE < noise * 0.35
    image += (np.sqrt(np.maximum(image, 0)) * shot + read) * grain
    return image, dark
