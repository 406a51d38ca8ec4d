"""Pinhole rays, and what lens, sensor and file format do to radiance."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from zoo.synthetic.light import Light
from zoo.synthetic.scene import CameraSpec, Optics

__all__ = ["camera_from_pixels", "ego_from_camera", "intrinsics_of", "take_picture"]


def intrinsics_of(spec: CameraSpec, size: tuple[int, int]) -> np.ndarray:
    """`(3, 3)` pixels; the centre of the first pixel is (0, 0). The field of view is the wider side's."""
    height, width = size
    focal = max(height, width) / 2 / np.tan(np.radians(spec.fov_deg) / 2)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])


def ego_from_camera(spec: CameraSpec) -> np.ndarray:
    """`(4, 4)` from camera axes (x right, y down, z forward) to ego axes (x forward, y left, z up)."""
    yaw, pitch, roll = np.radians([spec.yaw_deg, spec.pitch_deg, spec.roll_deg])
    axes = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]) @ np.array([[cp, 0, -sp], [0, 1, 0], [sp, 0, cp]]) @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    pose = np.eye(4)
    pose[:3, :3] = turn @ axes
    pose[:3, 3] = [spec.forward_m, spec.left_m, spec.height_m]
    return pose


def camera_from_pixels(intrinsics: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`(H * W, 3)` directions with z = 1, so that a ray's length parameter is the depth."""
    height, width = size
    x = (np.arange(width) - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(height) - intrinsics[1, 2]) / intrinsics[1, 1]
    grid = np.stack([*np.meshgrid(x, y), np.ones((height, width))], -1)
    return grid.reshape(-1, 3)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    if sigma <= 0.05:
        return image
    radius = max(1, int(np.ceil(2.5 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(0, 0)] * image.ndim
        pad[axis] = (radius, radius)
        padded = np.pad(image, pad, mode="edge")
        total = np.zeros_like(image)
        for k, weight in enumerate(kernel):
            part = [slice(None)] * image.ndim
            part[axis] = slice(k, k + image.shape[axis])
            total += weight * padded[tuple(part)]
        image = total
    return image


def _bloom(image: np.ndarray, amount: float, threshold: float = 1.0) -> np.ndarray:
    """Light of very bright pixels spread over their surroundings, worked out on a small copy."""
    bright = np.clip(image - threshold, 0, 40)
    if amount <= 0 or bright.max() <= 0:
        return image
    h, w = image.shape[:2]
    hh, ww = h // 4 * 4, w // 4 * 4
    if hh < 8 or ww < 8:
        return image
    small = bright[:hh, :ww].reshape(hh // 4, 4, ww // 4, 4, 3).mean((1, 3))
    wide = 0.6 * _blur(small, 1.2) + 0.3 * _blur(small, 4.0) + 0.1 * _blur(small, 10.0)
    spread = np.repeat(np.repeat(wide, 4, 0), 4, 1)
    spread = np.pad(spread, ((0, h - hh), (0, w - ww), (0, 0)), mode="edge")
    return image + amount * _blur(spread, 2.0)


def take_picture(radiance: np.ndarray, optics: Optics, light: Light, rng: np.random.Generator) -> np.ndarray:
    """`(H, W, 3)` uint8 from `(H, W, 3)` radiance: exposure, glare, vignetting, blur, noise, tone curve, compression."""
    height, width = radiance.shape[:2]
    image = radiance.astype(np.float32)
    luminance = image @ np.array([0.25, 0.6, 0.15], np.float32)
    metered = luminance[height // 4 :]
    mean = float(np.exp(np.log(metered + 1e-3).mean()))
    high = float(np.percentile(metered, 90))
    exposure = light.target * 2**optics.exposure_ev / (0.6 * mean + 0.25 * high + 1e-6) * 0.9
    image = image * exposure * np.asarray(optics.white_balance, np.float32)
    image = _bloom(image, 0.05 + 0.35 * optics.flare + (0.12 if light.lamp else 0))
    veil = optics.flare * image.mean((0, 1)) * 0.5 + optics.black * light.target
    image = image + veil
    yy, xx = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    image = image * (1 - optics.vignetting * 0.5 * (xx**2 + yy**2))[..., None].astype(np.float32)
    scale = max(height, width) / 512
    image = _blur(image, optics.blur_px * scale**0.5)
    noise = optics.noise * light.gain / 255
    shot = np.sqrt(np.maximum(image, 0)) * noise * 0.7 + noise * 0.35
    grain = 0.7 * rng.standard_normal(image.shape, np.float32) + 0.5 * rng.standard_normal((height, width, 1), np.float32)
    image = np.maximum(image + shot * grain, 0)
    image = image / (1 + image**3) ** (1 / 3)  # a soft shoulder before clipping
    image = image * 1.02
    image = np.where(image <= 0.0031308, 12.92 * image, 1.055 * np.maximum(image, 1e-6) ** (1 / 2.4) - 0.055)
    image = np.clip(image, 0, 1) ** optics.gamma
    image = np.clip(0.5 + (image - 0.5) * optics.contrast, 0, 1) * 0.6 + image * 0.4
    grey = (image @ np.full((3, 1), 1 / 3, np.float32))
    image = grey + (image - grey) * optics.saturation
    if optics.sharpen:
        image = image + optics.sharpen * (image - _blur(image, 0.8))
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=optics.jpeg_quality)
    return np.asarray(Image.open(buffer).convert("RGB"))
