"""What falls between the camera and the scene: streaks of rain and flakes of snow.

They are counted and sized to look like photographs, not by the physical number of drops: most real drops are too small
and too fast to be told apart, and are part of the air's extinction.
"""

from __future__ import annotations

import numpy as np

from zoo.synthetic.rendering.camera import enlarged
from zoo.synthetic.rendering.light import Light
from zoo.synthetic.scene.types import Scene

__all__ = ["falling", "halos", "on_the_lens", "spray"]

_THIN_AIR = 1e-3  # per metre: halos are invisible in clearer air
_APERTURE_M = 0.004
_SPRAY_MPS = 5.0  # slower wheels throw up no mist
_SPRAY_M = (2.6, 1.0, 0.7)  # standard deviations of the mist behind a car: along, across and up
_COARSE = 4  # pixels per cell when light is spread


def halos(radiance: np.ndarray, sources: np.ndarray, depth: np.ndarray, light: Light, focal: float) -> np.ndarray:
    """`(H, W, 3)` radiance with the light that thick air scatters around lamps.

    A source of intensity I at distance D, seen through air of extinction b, is surrounded at angle a by
    b I exp(-b D) / (4 D a): light that is scattered once, evenly in all directions, with half of the sphere of
    directions on the line of sight. I is radiance times solid angle times D squared, so that every bright pixel adds
    b D / (4 f r) of its radiance at r pixels, f being the focal length in pixels.

    Args:
        radiance: `(H, W, 3)` lux.
        sources: `(H, W)` bool: pixels that show lamps.
        depth: `(H, W)` metres.
        light: Gives the air.
        focal: Pixels.
    """
    if light.extinction < _THIN_AIR or not sources.any():
        return radiance
    height, width = depth.shape
    rows, columns = -(-height // _COARSE), -(-width // _COARSE)
    row, column = np.nonzero(sources)
    far = depth[row, column]
    own = radiance[row, column] - light.airlight * (1 - np.exp(-light.extinction * far))[:, None]
    scattered = np.maximum(own, 0) * (light.extinction * far / (4 * focal))[:, None]
    cell = (row // _COARSE) * columns + column // _COARSE
    shape = (2 * rows, 2 * columns)
    dy, dx = (np.minimum(np.arange(n), n - np.arange(n)) * float(_COARSE) for n in shape)
    # Within one cell of the source the mean distance counts.
    kernel = np.fft.rfft2(1 / np.maximum(np.hypot(dy[:, None], dx), 0.4 * _COARSE))
    out = radiance.copy()
    for k in range(3):
        coarse = np.bincount(cell, scattered[:, k], rows * columns).reshape(rows, columns)
        spread = np.fft.irfft2(np.fft.rfft2(coarse, shape) * kernel, shape)[:rows, :columns].astype(np.float32)
        out[..., k] += enlarged(spread[..., None], _COARSE, (height, width))[..., 0]
    return out


def spray(
    radiance: np.ndarray,
    depth: np.ndarray,
    directions: np.ndarray,
    world_from_camera: np.ndarray,
    scene: Scene,
    light: Light,
    time_s: float,
) -> np.ndarray:
    """`(H, W, 3)` radiance with the mist that wheels throw up from a wet road.

    Behind each vehicle hangs a cloud of Gaussian density; its optical depth along a ray through the middle grows with
    the square of the speed, up to 1.2 for cars at 20 m/s and twice that for trucks and buses. It looks like the air.

    Args:
        radiance: `(H, W, 3)` lux.
        depth: `(H, W)` metres along the optical axis.
        directions: `(H * W, 3)` of the pixels' rays, world axes, of length 1 along the optical axis.
        world_from_camera: `(4, 4)`.
        scene: Gives the vehicles.
        light: Gives wetness and air.
        time_s: Scene time.
    """
    if light.rain_mm_h <= 0 or light.wet <= 0:
        return radiance
    eye = world_from_camera[:3, 3]
    air = (0.9 * light.ambient).astype(np.float32)
    flat, range_ = radiance.reshape(-1, 3), depth.ravel()
    out = None
    for thing in scene.things:
        size = {"car": 1.0, "truck": 2.0, "bus": 2.0}.get(thing.kind)
        if size is None or not thing.moves:
            continue
        place, yaw, there = scene.places(thing, np.array([time_s - 0.05, time_s + 0.05]))
        speed = float(np.linalg.norm(place[1] - place[0]) / 0.1)
        ahead = np.array([np.cos(yaw[1]), np.sin(yaw[1]), 0.0])
        middle = place[1] - ahead * (3.0 + 2.5 * size) + [0, 0, 0.5]
        far = float((middle - eye) @ world_from_camera[:3, 2])
        if not there.all() or speed < _SPRAY_MPS or not 2 < far < 80:
            continue
        # Rays in axes in which the cloud is a sphere of deviation 1: the column falls with the miss distance.
        axes = (np.stack([ahead, [-ahead[1], ahead[0], 0], [0, 0, 1]]) / np.array(_SPRAY_M)[:, None]).astype(np.float32)
        toward, start = directions @ axes.T, axes @ (middle - eye).astype(np.float32)
        length = np.maximum(np.einsum("ij,ij->i", toward, toward), 1e-9)
        nearest = (toward @ start) / length
        missed = start @ start - nearest**2 * length
        near = np.nonzero((missed < 9) & (nearest > 0) & (range_ > nearest))[0]
        if not len(near):
            continue
        thick = 1.2 * size * light.wet * min(speed / 20, 1.2) ** 2
        share = 1 - np.exp(-np.float32(thick) * np.exp(-0.5 * missed.take(near)))
        out = flat.copy() if out is None else out
        out[near] += share[:, None] * (air - out[near])
    return radiance if out is None else out.reshape(radiance.shape)


def on_the_lens(radiance: np.ndarray, light: Light, rng: np.random.Generator) -> np.ndarray:
    """`(H, W, 3)` radiance behind the raindrops that sit on the glass of the camera.

    Each drop is a strong small lens far out of focus: it shows a wide part of the scene upside down and blurred, and
    is dark at its rim. Cameras behind a wiper have few or none.
    """
    if light.rain_mm_h <= 0 or rng.random() < 0.4:
        return radiance
    height, width = radiance.shape[:2]
    rows, columns = -(-height // 8), -(-width // 8)
    padded = np.pad(radiance, ((0, rows * 8 - height), (0, columns * 8 - width), (0, 0)), mode="edge")
    coarse = padded.reshape(rows, 8, columns, 8, 3).mean((1, 3))
    out = radiance.copy()
    for _ in range(int(rng.poisson(3 + 0.5 * light.rain_mm_h))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = width * 0.008 * float(np.exp(rng.normal(0, 0.5)))
        reach = int(np.ceil(radius)) + 1
        r = np.arange(max(int(y) - reach, 0), min(int(y) + reach + 1, height))
        c = np.arange(max(int(x) - reach, 0), min(int(x) + reach + 1, width))
        if not len(r) or not len(c):
            continue
        dy, dx = (r - y)[:, None], (c - x)[None]
        far = np.hypot(dy, dx) / radius
        view = 0.3 * width / radius  # pixels of the scene per pixel of the drop
        seen_r = np.clip((height / 2 - view * dy) // 8, 0, rows - 1).astype(int)
        seen_c = np.clip((x - view * dx) // 8, 0, columns - 1).astype(int)
        share = (np.clip((1 - far) * radius * 0.5, 0, 1) * 0.85).astype(np.float32)[..., None]
        shown = coarse[seen_r, seen_c] * (1 - 0.5 * np.clip(far, 0, 1) ** 4).astype(np.float32)[..., None]
        part = out[r[0] : r[-1] + 1, c[0] : c[-1] + 1]
        part += share * (shown - part)
    return out


def falling(
    radiance: np.ndarray, depth: np.ndarray, light: Light, focal: float, rng: np.random.Generator
) -> np.ndarray:
    """`(H, W, 3)` radiance with drops or flakes in front of surfaces that lie behind them."""
    if light.rain_mm_h > 0:
        return _draw(radiance, depth, light, focal, rng, count=18 * light.rain_mm_h**0.85, streak=True)
    if light.snow_mm_h > 0:
        return _draw(radiance, depth, light, focal, rng, count=220 * light.snow_mm_h**0.9, streak=False)
    return radiance


def _draw(
    radiance: np.ndarray,
    depth: np.ndarray,
    light: Light,
    focal: float,
    rng: np.random.Generator,
    count: float,
    streak: bool,
) -> np.ndarray:
    height, width = depth.shape
    n = int(count * height * width / (256 * 512))
    out = radiance.copy()
    if n == 0:
        return out
    z = 1.0 / rng.uniform(
        1 / 22.0, 1 / 0.9, n
    )  # evenly in 1 / z: near ones catch the eye more often than their share of the volume
    x, y = rng.uniform(0, width, n), rng.uniform(0, height, n)
    slant = rng.normal(0, 0.15)
    size = rng.uniform(0.7, 1.5, n) * (0.0016 if streak else 0.0045)
    radius = np.clip(size * focal / z, 0.35, 5)
    length = np.where(streak, np.clip(0.09 * focal / z, 2, height / 7), 0)  # 9 m/s for 10 ms
    steps = np.maximum(length.astype(int), 1)
    lamps = 6.0 * light.headlamp / (1 + z**2)
    glow = np.asarray(light.ambient * (0.85 if streak else 1.15), np.float32) + lamps[:, None].astype(np.float32)
    strength = np.minimum(1.0, radius) * (0.28 if streak else 0.85)
    soft = np.ones(n)  # pixels over which the edge of a drop or flake fades
    if not streak:
        # The lens is focused far away: a flake is spread over a disc as wide as the aperture, at the flake's distance.
        blurred = np.minimum(np.hypot(radius, _APERTURE_M / 2 * focal / z), 9)
        strength, radius, soft = strength * (radius / blurred) ** 2, blurred, 1 + blurred
    # All drops whose boxes have the same number of rows and columns are drawn at once.
    first_x = np.floor(x + np.minimum(slant * (steps - 1), 0) - radius).astype(int)
    last_x = np.ceil(x + np.maximum(slant * (steps - 1), 0) + radius).astype(int)
    first_y, last_y = np.floor(y - radius).astype(int), np.ceil(y + steps - 1 + radius).astype(int)
    columns, rows = last_x - first_x + 1, last_y - first_y + 1
    pixels, drops, alphas = [], [], []
    for shape in np.unique(np.stack([rows, columns], 1), axis=0):
        same = np.nonzero((rows == shape[0]) & (columns == shape[1]))[0]
        yy = first_y[same, None, None] + np.arange(shape[0])[:, None]  # (n, rows, 1)
        xx = first_x[same, None, None] + np.arange(shape[1])  # (n, 1, columns)
        down = yy - y[same, None, None]
        t = np.clip(down, 0, steps[same, None, None] - 1)
        distance = np.hypot(xx - (x[same, None, None] + slant * t), down - t)  # (n, rows, columns)
        alpha = np.clip((radius[same, None, None] - distance + 0.5) / soft[same, None, None], 0, 1)
        alpha *= strength[same, None, None]
        here, i, j = np.nonzero((alpha > 0) & (yy >= 0) & (yy < height) & (xx >= 0) & (xx < width))
        pixels.append((yy[here, i, 0] * width) + xx[here, 0, j])
        drops.append(same[here])
        alphas.append(alpha[here, i, j])
    pixel, drop = np.concatenate(pixels), np.concatenate(drops)
    before = depth.ravel()[pixel] > z[drop]
    pixel, drop, alpha = pixel[before], drop[before], np.concatenate(alphas)[before].astype(np.float32)
    return _over(out.reshape(-1, 3), pixel, alpha, glow[drop]).reshape(radiance.shape)


def _over(out: np.ndarray, pixel: np.ndarray, alpha: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Blends `(M,)` samples of `color` `(M, 3)` over the `(P, 3)` pixels they belong to, one after the other.

    A pixel may get several samples, of which `out[pixel] = ...` would keep only the last; so one round for each of
    them.
    """
    order = np.argsort(pixel, kind="stable")
    pixel, alpha, color = pixel[order], alpha[order], color[order]
    start = np.nonzero(np.diff(pixel, prepend=-1))[0]
    rank = np.arange(len(pixel)) - np.repeat(start, np.diff(start, append=len(pixel)))
    for k in range(int(rank.max()) + 1 if len(rank) else 0):  # the k-th sample of every pixel
        at = np.nonzero(rank == k)[0]
        share = alpha[at, None]
        out[pixel[at]] = out[pixel[at]] * (1 - share) + share * color[at]
    return out
