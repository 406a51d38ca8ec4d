"""What falls between the camera and the scene: streaks of rain and flakes of snow."""

from __future__ import annotations

import numpy as np

from zoo.synthetic.light import Light

__all__ = ["falling"]


def falling(
    radiance: np.ndarray, depth: np.ndarray, light: Light, focal: float, rng: np.random.Generator
) -> np.ndarray:
    """`(H, W, 3)` radiance with drops or flakes in front of surfaces that lie behind them."""
    if light.rain_mm_h > 0:
        return _draw(radiance, depth, light, focal, rng, count=18 * light.rain_mm_h**0.85, streak=True)
    if light.snow_mm_h > 0:
        return _draw(radiance, depth, light, focal, rng, count=220 * light.snow_mm_h**0.9, streak=False)
    return radiance


def _draw(radiance, depth, light, focal, rng, count, streak) -> np.ndarray:
    height, width = depth.shape
    n = int(count * height * width / (256 * 512))
    out = radiance.copy()
    if n == 0:
        return out
    z = 1.0 / rng.uniform(1 / 22.0, 1 / 0.9, n)  # nearer ones are seen more often per depth than far ones
    x, y = rng.uniform(0, width, n), rng.uniform(0, height, n)
    slant = rng.normal(0, 0.15)
    size = rng.uniform(0.7, 1.5, n) * (0.0016 if streak else 0.0045)
    radius = np.clip(size * focal / z, 0.35, 5)
    length = np.where(streak, np.clip(0.09 * focal / z, 2, height / 7), 0)  # 9 m/s for 10 ms
    for i in range(n):
        glow = light.ambient * (0.85 if streak else 1.15) + 6.0 * light.headlamp / (1 + z[i] ** 2)
        steps = max(1, int(length[i]))
        along = np.arange(steps)
        r = int(np.ceil(radius[i]))
        cx = x[i] + slant * along
        x0, x1 = int(cx.min()) - r, int(cx.max()) + r + 1
        y0, y1 = int(y[i]) - r, int(y[i]) + steps + r
        x0, x1, y0, y1 = max(x0, 0), min(x1, width), max(y0, 0), min(y1, height)
        if x0 >= x1 or y0 >= y1:
            continue
        yy, xx = np.meshgrid(np.arange(y0, y1), np.arange(x0, x1), indexing="ij")
        t = np.clip(yy - y[i], 0, steps - 1)
        d = np.hypot(xx - (x[i] + slant * t), yy - y[i] - t)
        alpha = np.clip(radius[i] - d + 0.5, 0, 1) * min(1.0, radius[i]) * (0.28 if streak else 0.85)
        alpha = (alpha * (depth[y0:y1, x0:x1] > z[i]))[..., None]
        out[y0:y1, x0:x1] = out[y0:y1, x0:x1] * (1 - alpha) + alpha * glow
    return out
