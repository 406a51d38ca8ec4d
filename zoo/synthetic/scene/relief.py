"""The relief of the ground: how it departs from the ruled surface that the street's course and slope span.

The road has a crown or falls to one side, rises and sags over its length, and is worn; pavements fall towards the kerb;
beyond them banks go up or down, and turf is bumpy. Side streets cut through the banks at the height of the road. The
heights are sampled once per place on a grid of 1 m and interpolated, so that everything that stands on the
ground, the ground's own triangles and the vehicle's way use the same surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Relief", "draw_relief"]

_ALONG_M, _ACROSS_M = 1.0, 1.0
_SIDE_M = 90.0  # to each side; beyond it the ground goes on level
_BEFORE_M, _AFTER_M = 70.0, 130.0  # before and after the street
_KNOT_M = 25.0  # along the street, between changes of a bank
_TURF_M = 19.0  # beyond the edge, to where the ground has bumps of a few metres
_CUT_M = 10.0  # from a side street to where a bank has its full height
_LEVELLED = ("city", "town", "boulevard", "retail", "industrial")
_BANK_M = {
    "city": 0.5,
    "town": 0.9,
    "boulevard": 0.9,
    "industrial": 1.5,
    "residential": 1.6,
    "rural": 2.6,
    "country": 2.8,
}
"""Typical height of banks by kind of place; others have that of a residential street."""


@dataclass(frozen=True, kw_only=True)
class Relief:
    """Numbers from which the heights follow.

    Attributes:
        seed: Of the fields of noise.
        start, end: Of the street, metres.
        half_width: Of the road.
        cross_fall: Slope of the road to the left, metres per metre.
        crown: Fall from the middle of the road to both kerbs.
        swell: Deviation of the rise and fall over the length of the street, metres.
        wear: Deviation of ruts, sags and settled trenches in the road.
        bumps: Deviation of the height of turf over a few metres.
        edge: Metres from the middle where the bank begins, left and right.
        bank: Height of the bank every 25 m, left and right, metres.
        reach: Width of the bank, left and right.
        hillside: Slope of the land behind the edges, upwards to the left.
        cuts: (from, to, side) of side streets, which stay at the height of the road; side 0 is both.
    """

    seed: int
    start: float
    end: float
    half_width: float
    cross_fall: float
    crown: float
    swell: float
    wear: float
    bumps: float
    edge: tuple[float, float]
    bank: tuple[tuple[float, ...], tuple[float, ...]]
    reach: tuple[float, float]
    hillside: float
    cuts: tuple[tuple[float, float, int], ...]

    @cached_property
    def _grid(self) -> np.ndarray:
        """`(S, T)` metres."""
        s = np.arange(self.start - _BEFORE_M, self.end + _AFTER_M + _ALONG_M, _ALONG_M)
        t = np.arange(-_SIDE_M, _SIDE_M + _ACROSS_M, _ACROSS_M)
        rng = np.random.default_rng([67, self.seed])
        shape = len(s), len(t)
        waves = _field(rng, (len(s), 8), (80.0, 260.0), 1.5)[:, :1]  # the same from kerb to kerb
        worn = _field(rng, shape, (4.0, 40.0), 1.4)
        turf = _field(rng, shape, (3.0, 11.0), 1.0)
        rolling = _field(rng, shape, (15.0, 70.0), 1.6)
        beside = np.abs(t)
        z = self.swell * waves + self.wear * worn
        z = z + self.cross_fall * np.clip(t, -self.half_width - 3, self.half_width + 3)
        z -= self.crown * (np.sqrt(np.minimum(beside, self.half_width) ** 2 + 1.0) - 1.0)
        for index, side in enumerate((1, -1)):
            out = side * t - self.edge[index]
            away = _smooth(out / self.reach[index])
            bank = np.interp(s, self.start + _KNOT_M * np.arange(len(self.bank[index])), self.bank[index])
            free = self._free(s, side)
            z += (free * bank)[:, None] * away
            # Short waves end where the ground's triangles become wider than they are.
            near = _smooth((out + 0.5) / 2) * _smooth((_TURF_M - out) / 6)
            z += (0.25 + 0.75 * free)[:, None] * near * self.bumps * turf
            z += self.hillside * side * free[:, None] * np.maximum(out, 0)
            z += _smooth(out / 25) * 4 * self.bumps * (0.3 + 0.7 * free)[:, None] * rolling
            # Pavements fall towards the kerb, so that water runs off them.
            z += 0.02 * np.clip(side * t - self.half_width, 0, self.edge[index] - self.half_width)
        return z.astype(np.float32)

    def _free(self, s: np.ndarray, side: int) -> np.ndarray:
        """`(S,)` from 0 at a side street to 1 away from it."""
        out = np.ones_like(s)
        for start, end, which in self.cuts:
            if which in (0, side):
                out = np.minimum(out, _smooth((np.maximum(start - s, s - end) - 1) / _CUT_M))
        return out

    def height(self, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Metres at street coordinates; `s` and `t` are float arrays of shapes that go together."""
        grid = self._grid
        u = np.minimum(np.maximum((s - (self.start - _BEFORE_M)) / _ALONG_M, 0), grid.shape[0] - 1.001)
        v = np.minimum(np.maximum((t + _SIDE_M) / _ACROSS_M, 0), grid.shape[1] - 1.001)
        i, j = u.astype(np.int64), v.astype(np.int64)
        u, v = u - i, v - j
        flat, at = grid.ravel(), i * grid.shape[1] + j
        near, far = flat.take(at), flat.take(at + grid.shape[1])
        near = near + (flat.take(at + 1) - near) * v
        far = far + (flat.take(at + grid.shape[1] + 1) - far) * v
        return near + (far - near) * u


def _smooth(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, without kinks."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _field(rng: np.random.Generator, shape: tuple[int, int], waves_m: tuple[float, float], slope: float) -> np.ndarray:
    """Noise of deviation 1 with wavelengths between the two, in amplitude as `wavelength ** slope`."""
    padded = tuple(-(-n // 32) * 32 for n in shape)  # lengths for which the transform is fast
    f = np.hypot(np.fft.fftfreq(padded[0], _ALONG_M)[:, None], np.fft.rfftfreq(padded[1], _ACROSS_M)[None])
    spectrum = np.fft.rfft2(rng.standard_normal(padded)) * np.where(
        (f >= 1 / waves_m[1]) & (f <= 1 / waves_m[0]), np.maximum(f, 1e-6) ** -slope, 0
    )
    field = np.fft.irfft2(spectrum, s=padded)[: shape[0], : shape[1]]
    return (field / max(float(field.std()), 1e-9)).astype(np.float32)


def draw_relief(
    seed: int,
    kind: str,
    span: tuple[float, float],
    half_width: float,
    aside: tuple[float, float],
    cuts: tuple[tuple[float, float, int], ...],
) -> Relief:
    """The relief of a place.

    Roads are built with a crown or a fall to one side of 2 to 3.5 %, and settle. Banks keep their sign over most of a
    street's length.

    Args:
        seed: Of the place; the draws are independent of all others.
        kind: Of the place.
        span: Start and end of the street, metres along it.
        half_width: Of the road, metres.
        aside: Metres from the kerb to where banks may begin, left and right.
        cuts: (from, to, side) of the side streets.
    """
    rng = np.random.default_rng([20261, seed])
    one_sided = rng.random() < 0.5
    fall = rng.normal(0.037, 0.01)
    knots = int((span[1] - span[0]) / _KNOT_M) + 2
    typical = _BANK_M.get(kind, _BANK_M["residential"])
    banks = []
    for _ in range(2):
        mean = rng.normal(0, typical)
        banks.append(tuple((mean + 0.4 * typical * rng.standard_normal(knots)).tolist()))
    return Relief(
        seed=seed,
        start=span[0],
        end=span[1],
        half_width=half_width,
        cross_fall=float(rng.choice([-1, 1]) * fall if one_sided else rng.normal(0, 0.025)),
        crown=0.0 if one_sided else float(max(fall, 0.0)),
        swell=float(rng.uniform(0.15, 0.85)),
        wear=float(rng.uniform(0.008, 0.03)),
        bumps=float(rng.uniform(0.04, 0.1)),
        edge=(half_width + max(aside[0], 0.6), half_width + max(aside[1], 0.6)),
        bank=(banks[0], banks[1]),
        reach=(float(rng.uniform(3, 14)), float(rng.uniform(3, 14))),
        hillside=float(np.clip(rng.normal(0, 0.03 if kind in _LEVELLED else 0.06), -0.12, 0.12)),
        cuts=cuts,
    )
