"""What number a lidar reports for a return: the calibration of a sensor.

    intensity = gain * (reflectance * incidence * air) ** exponent * curve(range) + beam - floor

cut at 0, and in whole steps. `reflectance` is the surface's at 905 nm (`reflectance`), `air` the two-way transmission.
`incidence` is Lambert's cosine for glossy surfaces. Rough ones send light back to where it came from, so that a real
pavement looks the same at 6 m as at 15 m, under a third of the angle: theirs is `cosine / (cosine + shadow)`, with
three times the shadow for asphalt, whose grains are low.

The default is an ideal sensor that corrects for most of the distance itself. The constants of `HDL_64E` and `HDL_32E`
were set by hand, given the reflectances of `reflectance`: from the medians of intensity and the shares of zeros by band
of range in three KITTI sweeps (000000 to 000002 of the object data set) and two nuScenes keyframes, without labels, and
with an eye on the medians of a few classes in SemanticKITTI's first scan and a labelled nuScenes drive. So it is no
independent check that the classes agree (`benchmarks/lidar_realism.py`). The beams of the HDL-64E are not equally
sensitive: `beam` makes the medians of neighbouring beams equal in the three KITTI sweeps, where both hit the same
surface within 20 m; no label was used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.errors import InputError

__all__ = ["HDL_32E", "HDL_64E", "IDEAL", "RESPONSES", "Response"]


@dataclass(frozen=True, kw_only=True)
class Response:
    """Calibration of a lidar's intensity, on a scale from 0 to 1.

    Attributes:
        gain, exponent, floor: See the module's text.
        curve: Pairs of metres and factor, linear in between, constant beyond the ends; empty: `1 / (1 + (r / 120 m)²)`.
        shadow: Of rough surfaces; 0 treats them as Lambert's, too.
        beam: What is added for each beam, the lowest first; empty: nothing.
        steps: Values that can be reported; 0: any.
        top: The largest value that is reported.
        speckle: Deviation of the intensity from pulse to pulse, relative.
        retro: Power of a retroreflector seen head on.
        misses: Median intensity that is reported with a range of 0 if there was no return; `None`: such rays are not
            reported at all.
    """

    gain: float = 1.0
    exponent: float = 1.0
    floor: float = 0.0
    curve: tuple[tuple[float, float], ...] = ()
    shadow: float = 0.0
    beam: tuple[float, ...] = ()
    steps: int = 0
    top: float = 1.0
    speckle: float = 0.0
    retro: float = 1.0
    misses: float | None = None

    def __post_init__(self) -> None:
        for name in ("gain", "exponent", "top", "retro"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} {getattr(self, name)} of a lidar's response is not positive")
        for name in ("floor", "shadow", "speckle", "steps"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} {getattr(self, name)} of a lidar's response is negative")

    def incidence(self, cosine: np.ndarray, glossy: np.ndarray, asphalt: np.ndarray) -> np.ndarray:
        """`(P,)` share of the reflectance that counts at an angle of incidence."""
        if self.shadow == 0:
            return cosine
        return np.where(glossy, cosine, cosine / (cosine + np.where(asphalt, 3, 1) * self.shadow))

    def report(self, power: np.ndarray, range_m: np.ndarray, beam: np.ndarray, speckle: np.ndarray) -> np.ndarray:
        """`(P,)` intensity, not yet in steps.

        Args:
            power: `(P,)` reflectance times incidence times transmission.
            range_m: `(P,)` metres.
            beam: `(P,)` number of the beam.
            speckle: `(P,)` standard normal.
        """
        if self.curve:
            metres, factor = zip(*self.curve)
            by_range = np.interp(range_m, metres, factor)
        else:
            by_range = 1 / (1 + (range_m / 120) ** 2)
        bright = self.gain * power**self.exponent * by_range * (1 + self.speckle * speckle)
        if self.beam:
            bright = bright + np.asarray(self.beam)[beam]
        return bright - self.floor

    def in_steps(self, intensity: np.ndarray) -> np.ndarray:
        """`(P,)` cut at 0 and `top` and rounded to the values that the sensor can report."""
        cut = np.clip(intensity, 0, self.top)
        return np.round(cut * self.steps) / self.steps if self.steps else cut


IDEAL = Response()
"""Lambert's law, any number, most of the distance corrected."""

HDL_64E = Response(
    gain=0.8,
    exponent=0.5,
    floor=0.13,
    curve=((15, 1.0), (20, 0.95), (25, 0.88), (34, 0.67), (45, 0.46), (60, 0.28), (80, 0.17)),
    shadow=0.02,
    beam=(
        *(0.03, 0.06, 0.03, -0.05, -0.05, -0.05, 0.06, 0.03, 0.02, -0.04, -0.03, 0.02, -0.13, 0.08, 0.04, -0.02),
        *(0.0, 0.03, 0.01, 0.01, 0.03, -0.11, 0.01, -0.01, 0.05, 0.07, 0.01, -0.11, -0.04, 0.05, 0.03, 0.06),
        *(0.01, 0.0, -0.07, 0.0, 0.01, 0.02, 0.0, -0.05, 0.06, 0.02, -0.1, 0.04, -0.05, 0.04, 0.01, -0.01),
        *(-0.03, -0.03, 0.0, 0.04, 0.04, 0.0, -0.05, 0.05, -0.02, 0.06, -0.04, 0.03, -0.08, 0.0, 0.0, 0.04),
    ),
    steps=100,
    top=0.99,
    speckle=0.14,
    retro=2.0,
)
"""KITTI's: 100 values from 0 to 0.99, corrected for distance up to about 20 m."""

HDL_32E = Response(
    gain=0.4,
    exponent=1.0,
    floor=0.0,
    curve=(
        (2.5, 0.5),
        (4, 0.6),
        (6, 1.0),
        (10, 1.0),
        (14, 0.6),
        (18, 0.45),
        (25, 0.35),
        (35, 0.4),
        (50, 0.5),
        (80, 0.7),
    ),
    shadow=0.08,
    steps=255,
    speckle=0.2,
    retro=2.0,
    misses=0.035,
)
"""That of nuScenes: percent of reflectance up to 100 of 255 at 6 to 10 m, retroreflectors above."""

RESPONSES = {"ideal": IDEAL, "hdl-64e": HDL_64E, "hdl-32e": HDL_32E}
"""By the names that rig files use."""
