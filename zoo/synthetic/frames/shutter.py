"""When and from where each pixel of a picture is taken: all at once, or row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.condition import Condition
from zoo.geometry.distortion import Distortion
from zoo.synthetic.frames.world import World
from zoo.synthetic.rendering.cast import Caster, Hits
from zoo.synthetic.truth.flow import Next

__all__ = ["RollingShutter", "Shot", "Shutter", "covered"]

_NEAR_M = 0.05  # what is nearer to the camera's plane is not projected
_BANDS = 32  # of rows for which moving things stand still: a car at 20 m/s moves by 2 cm in 32 ms / 32


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture to take.

    Attributes:
        condition: Light and weather.
        size: (height, width).
        intrinsics: `(3, 3)` pixels for this size.
        ego_from_camera: `(4, 4)`.
        world_from_ego: `(4, 4)` at `time_us`.
        time_us: Scene time of the middle of the exposure.
        motion_blur: Whether the vehicle and the things move while the shutter is open.
        edge_rays: Rays that are added in pixels at edges, where one is not the mean of its pixel.
        exact: Labels of the ray through each pixel's middle; otherwise as annotators draw them.
        following: The camera's next picture, for optical flow; `None`: without.
        distortion: Of the lens; `None`: a pinhole.
        line_time_s: Seconds from the exposure of one row to that of the next; 0: all at once.
    """

    condition: Condition
    size: tuple[int, int]
    intrinsics: np.ndarray
    ego_from_camera: np.ndarray
    world_from_ego: np.ndarray
    time_us: int
    motion_blur: bool
    edge_rays: int
    exact: bool
    following: Next | None = None
    distortion: Distortion | None = None
    line_time_s: float = 0.0

    @property
    def world_from_camera(self) -> np.ndarray:
        """`(4, 4)`."""
        return self.world_from_ego @ self.ego_from_camera


class Shutter:
    """All pixels at once.

    Attributes:
        caster: Everything where it is at the time of the picture.
        eye: `(3,)` or `(H * W, 3)` where rays start.
    """

    def __init__(self, caster: Caster, boxes: np.ndarray, shot: Shot) -> None:
        self.caster = caster
        self.eye = shot.world_from_camera[:3, 3]
        self._rotation = shot.world_from_camera[:3, :3]
        # The first mesh, of what moves, is small: only pixels inside its things' boxes need to ask for it.
        self._near = covered(boxes, shot).ravel() if len(boxes) else np.ones(shot.size[0] * shot.size[1], bool)

    def turned(self, rays: np.ndarray) -> np.ndarray:
        """`(H * W, 3)` float32 world directions of the pixels' rays in camera axes."""
        return (rays @ self._rotation.T).astype(np.float32)

    def shifted(self, directions: np.ndarray, pixels: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """`(M, 3)` directions next to those of `pixels`, `(M, 2)` away in the plane at depth 1."""
        return directions.take(pixels, axis=0) + shift @ self._rotation[:, :2].T.astype(np.float32)

    def trace(self, directions: np.ndarray, pixels: np.ndarray | None = None, *, surface: bool = True) -> Hits:
        """First hits of rays of the given pixels, by default of all; coordinates and normals only with `surface`."""
        near = self._near if pixels is None else self._near.take(pixels)
        origins = np.broadcast_to(self.eye.astype(np.float32), directions.shape)
        return self.caster.trace(origins, directions, np.nonzero(near)[0], coherent=True, surface=surface)

    def starts(self, hits: Hits, pixels: np.ndarray | None = None) -> np.ndarray:
        """`(3,)` or `(M, 3)` where rays must start to hit in `caster` what they hit at their own time."""
        return self.eye


class RollingShutter(Shutter):
    """Row after row, the middle one at the time of the picture.

    Every row has a camera pose of its own. Moving things are where they are in the middle of a band of rows.
    """

    def __init__(self, world: World, shot: Shot) -> None:
        height, width = shot.size
        late = (np.arange(height) - (height - 1) / 2) * shot.line_time_s
        poses = world.scene.ego_poses(shot.time_us * 1e-6 + late) @ shot.ego_from_camera
        count = min(_BANDS, height)
        self._row = np.repeat(np.arange(height), width)
        self._band = np.arange(height) * count // height
        middles = [float(late[self._band == band].mean()) for band in range(count)]
        self._casters = world.casters_at([shot.time_us * 1e-6 + middle for middle in middles])
        self.caster = self._casters[count // 2]
        self.eye = poses[self._row, :3, 3]
        self._rotations = poses[:, :3, :3]

    def turned(self, rays: np.ndarray) -> np.ndarray:
        """See `Shutter`."""
        by_row = rays.reshape(len(self._rotations), -1, 3) @ self._rotations.transpose(0, 2, 1)
        return by_row.reshape(-1, 3).astype(np.float32)

    def shifted(self, directions: np.ndarray, pixels: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """See `Shutter`."""
        axes = self._rotations[self._row[pixels], :, :2].astype(np.float32)
        return directions.take(pixels, axis=0) + np.einsum("mck,mk->mc", axes, shift)

    def trace(self, directions: np.ndarray, pixels: np.ndarray | None = None, *, surface: bool = True) -> Hits:
        """See `Shutter`."""
        pixels = np.arange(len(self._row)) if pixels is None else pixels
        band, parts, order = self._band[self._row[pixels]], [], []
        for number in np.unique(band).tolist():
            some = np.nonzero(band == number)[0]
            eyes, toward = self.eye[pixels[some]], directions.take(some, axis=0)
            parts.append(self._casters[number].trace(eyes, toward, coherent=True, surface=surface))
            order.append(some)
        back = np.argsort(np.concatenate(order), kind="stable")
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("distance", "face", "uv", "normal")
        }
        return Hits(**{name: array[back] if len(array) else array for name, array in joined.items()})

    def starts(self, hits: Hits, pixels: np.ndarray | None = None) -> np.ndarray:
        """See `Shutter`."""
        pixels = np.arange(len(self._row)) if pixels is None else pixels
        eye, band = self.eye[pixels], self._band[self._row[pixels]]
        moving = np.nonzero(self.caster.is_first(hits.face))[0]
        if not len(moving):
            return eye
        middle = self.caster.meshes[0]
        faces = middle.faces[hits.face[moving]]
        for number in np.unique(band[moving]).tolist():
            some = band[moving] == number
            now = self._casters[number].meshes[0].vertices[faces[some]]
            eye[moving[some]] += (middle.vertices[faces[some]] - now).mean(1)
        return eye


def covered(boxes: np.ndarray, shot: Shot) -> np.ndarray:
    """`(H, W)` bool: pixels inside the image rectangle of any of the `(K, 8, 3)` boxes, one pixel more on each side.

    With a lens or a rolling shutter a box's outline is not that of its corners, so all pixels count.
    """
    if shot.distortion is not None or shot.line_time_s:
        return np.ones(shot.size, bool)
    mask = np.zeros(shot.size, bool)
    pose, intrinsics = shot.world_from_camera, shot.intrinsics
    local = (boxes - pose[:3, 3]) @ pose[:3, :3]
    z = local[..., 2]
    for corners, depth in zip(local[z.max(1) > _NEAR_M], z[z.max(1) > _NEAR_M]):
        if depth.min() < _NEAR_M:
            # Part of the box lies behind the camera. Its corners there are replaced by those on the near plane and, for
            # the edges that cross it, all corners are taken there as well: a rectangle that is rather too large.
            corners = np.concatenate([corners, corners])
            depth = np.concatenate([np.maximum(depth, _NEAR_M), np.full(8, _NEAR_M)])
        x = corners[:, 0] / depth * intrinsics[0, 0] + intrinsics[0, 2]
        y = corners[:, 1] / depth * intrinsics[1, 1] + intrinsics[1, 2]
        x0, y0 = int(max(np.floor(x.min()) - 1, 0)), int(max(np.floor(y.min()) - 1, 0))
        mask[y0 : int(max(np.ceil(y.max()) + 2, 0)), x0 : int(max(np.ceil(x.max()) + 2, 0))] = True
    return mask
