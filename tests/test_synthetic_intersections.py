"""Nobody and nothing passes through anything: counted on the final meshes, without a line of the placement's own code.

Everything that can move is the box around its own mesh, in its own axes, less 3 cm on each side. What stands still is
sampled: points on the triangles of houses, barriers and furniture. A tree is its trunk up to 1.5 m.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from zoo.synthetic.models.barriers import strip_mesh
from zoo.synthetic.models.build import MOVING
from zoo.synthetic.models.houses import building
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.drive import describe_drive
from zoo.synthetic.scene.network import Stretch
from zoo.synthetic.scene.types import Scene, Thing
from zoo.synthetic.shapes.mesh import Mesh, place
from zoo.synthetic.shapes.surfaces import Material
from zoo.synthetic.shapes.templates import poses_of, template

SHRINK_M = 0.03
CELL_M = 3.0
RIDERS = ("cyclist", "motorcyclist")
EGO = Thing(kind="car", variant=0, s=0.0, t=0.0)


def surface_points(mesh: Mesh, spacing: float = 0.3) -> np.ndarray:
    """`(N, 3)` points on the triangles of a mesh that are lower than 3.5 m, about `spacing` apart."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(float) for k in range(3))
    low = np.minimum(np.minimum(a[:, 2], b[:, 2]), c[:, 2]) < mesh.vertices[:, 2].min() + 4
    a, b, c = a[low], b[low], c[low]
    longest = np.maximum(np.linalg.norm(b - a, axis=1), np.linalg.norm(c - a, axis=1))
    out = [(a + b + c) / 3]
    for count in (2, 4, 8, 16, 32, 64, 128):
        some = (longest > spacing * count / 2) & (longest <= spacing * count)
        if not some.any():
            continue
        u, v = (axis.ravel() / count for axis in np.mgrid[: count + 1, : count + 1])
        u, v = u[u + v <= 1], v[u + v <= 1]
        grid = a[some, None] + u[None, :, None] * (b - a)[some, None] + v[None, :, None] * (c - a)[some, None]
        out.append(grid.reshape(-1, 3))
    return np.concatenate(out)


def solid_points(scene: Scene) -> np.ndarray:
    """`(N, 3)` world points on everything that never moves."""
    parts = []
    for leg in scene.parts:
        street = leg.street
        for mesh in [building(street, house) for house in leg.buildings]:
            parts.append(surface_points(mesh))
        for strip in leg.strips:
            parts.append(surface_points(strip_mesh(street, strip)))
        for thing in leg.things:
            if thing.kind in MOVING or thing.kind == "grass":
                continue
            where, yaw, _ = thing.places(street, np.zeros(1))
            mesh = place(template(thing.kind, thing.variant), where[0], float(yaw[0]), thing.scale)
            tall = thing.kind in ("tree", "conifer")
            bark = mesh.vertices[mesh.faces[mesh.material == Material.BARK]].mean(1) if tall else np.zeros((0, 3))
            parts.append(bark[bark[:, 2] < where[0, 2] + 1.5] if tall else surface_points(mesh))
    points = np.concatenate(parts)
    cells = np.round(points / 0.15).astype(np.int64) @ [1, 100_000, 10_000_000_000]
    return points[np.unique(cells, return_index=True)[1]]  # one point in each cube of 15 cm


class Agents:
    """The boxes of everything that can move, the ego vehicle included, at one moment."""

    def __init__(self, scene: Scene, times_s: np.ndarray) -> None:
        self.things = [thing for thing in scene.things if thing.kind in MOVING]
        rows, sizes = [], []
        for thing in self.things:
            poses = range(poses_of(thing.kind)) if thing.moves else (0,)
            vertices = np.concatenate([template(thing.kind, thing.variant, pose).vertices for pose in poses])
            vertices = vertices * np.asarray(thing.scale)
            where, yaw, there = scene.places(thing, times_s)
            rows.append(np.column_stack([where, yaw, there]))
            sizes.append([vertices.min(0) + SHRINK_M, vertices.max(0) - SHRINK_M])
        pose = scene.ego_poses(times_s)
        yaw = np.arctan2(pose[:, 1, 0], pose[:, 0, 0])
        on_its_way = isinstance(scene, Stretch)  # a drive ends before the street does
        inside = on_its_way | (scene.ego_along(times_s) < scene.street.end)
        rows.append(np.column_stack([pose[:, :3, 3], yaw, inside]))
        vertices = template("car", 0).vertices
        sizes.append([vertices.min(0) + SHRINK_M, vertices.max(0) - SHRINK_M])
        self.things.append(EGO)
        self.rows, self.sizes = np.stack(rows), np.array(sizes)  # (A, T, 5), (A, 2, 3)

    def names(self, index: int) -> str:
        """For messages."""
        thing = self.things[index]
        return "ego" if thing is EGO else f"{thing.kind} {thing.instance}{'' if thing.moves else ' (standing)'}"

    def corners(self, k: int) -> np.ndarray:
        """`(A, 4, 2)` world metres at moment k."""
        (x0, y0), (x1, y1) = self.sizes[:, 0, :2].T, self.sizes[:, 1, :2].T
        local = np.stack([np.stack([x, y], -1) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], 1)
        c, s = np.cos(self.rows[:, k, 3]), np.sin(self.rows[:, k, 3])
        turn = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], 1)
        return local @ turn + self.rows[:, k, None, :2]


def separated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`(P,)` bool: whether rectangles `(P, 4, 2)` are apart (the separating axis theorem)."""
    out = np.zeros(len(a), bool)
    for one, side in itertools.product((a, b), (1, 3)):
        axis = one[:, side] - one[:, 0]
        p, q = np.einsum("pij,pj->pi", a, axis), np.einsum("pij,pj->pi", b, axis)
        out |= (p.max(1) <= q.min(1)) | (q.max(1) <= p.min(1))
    return out


def meetings_of_agents(agents: Agents) -> set[tuple[str, str]]:
    """Pairs of movable things that intersect at any moment; a rider and the cycle below are one."""
    found = set()
    reach = np.linalg.norm(np.abs(agents.sizes[:, :, :2]).max(1), axis=1)
    for k in range(agents.rows.shape[1]):
        here = np.nonzero(agents.rows[:, k, 4] > 0)[0]
        corners, xy = agents.corners(k), agents.rows[:, k, :2]
        gap = np.linalg.norm(xy[here][:, None] - xy[here][None], axis=2)
        i, j = np.nonzero(np.triu(gap < reach[here][:, None] + reach[here][None], 1))
        i, j = here[i], here[j]
        own = (j == i + 1) & np.array([agents.things[b].kind in RIDERS for b in j], bool)
        i, j = i[~own], j[~own]
        meet = ~separated(corners[i], corners[j])
        found |= {(agents.names(a), agents.names(b)) for a, b in zip(i[meet], j[meet])}
    return found


def meetings_with_solids(agents: Agents, points: np.ndarray) -> set[str]:
    """Movable things that have a point of something solid in their box at any moment."""
    cell = np.floor(points[:, :2] / CELL_M).astype(np.int64)
    key = cell[:, 0] * 100_000 + cell[:, 1]
    order = np.argsort(key, kind="stable")
    key, points = key[order], points[order]
    found = set()
    for index in range(len(agents.things)):
        rows, (low, high) = agents.rows[index], agents.sizes[index]
        rows = rows[rows[:, 4] > 0]
        if not agents.things[index].moves and agents.things[index] is not EGO:
            rows = rows[:1]
        reach = float(np.linalg.norm(np.abs(agents.sizes[index, :, :2]).max(0)))
        steps = np.arange(-int(reach // CELL_M) - 1, int(reach // CELL_M) + 2)
        at = np.floor(rows[:, :2] / CELL_M).astype(np.int64)
        keys = (at[:, 0, None, None] + steps[:, None]) * 100_000 + at[:, 1, None, None] + steps
        keys = keys.reshape(len(rows), len(steps) ** 2)
        first, last = np.searchsorted(key, keys), np.searchsorted(key, keys, "right")
        for row, begin, end in zip(rows, first, last):
            some = np.concatenate([np.arange(b, e) for b, e in zip(begin, end) if e > b] or [np.zeros(0, int)])
            gap = points[some] - row[:3]
            c, s = np.cos(row[3]), np.sin(row[3])
            local = np.stack([c * gap[:, 0] + s * gap[:, 1], c * gap[:, 1] - s * gap[:, 0], gap[:, 2]], 1)
            # Above 15 cm: a kerb is no obstacle to a foot, nor to a wheel that turns in.
            if ((local > np.maximum(low, [-9, -9, 0.15])) & (local < high)).all(1).any():
                found.add(agents.names(index))
                break
    return found


def check(seed: int, times_s: np.ndarray) -> list[str]:
    return meetings(seed, describe(seed), times_s)


def check_drive(seed: int, seconds: float, step_s: float) -> list[str]:
    """A drive, stretch after stretch."""
    drive, out = describe_drive(seed, seconds), []
    times = np.arange(1, 1 + seconds, step_s)
    number = np.array([drive.stretch_at(time_s) for time_s in times])
    assert len(set(number.tolist())) > 1
    for k in sorted(set(number.tolist())):
        out += meetings(seed, drive.stretch(k), times[number == k])
    return out


def meetings(seed: int, scene: Scene, times_s: np.ndarray) -> list[str]:
    agents = Agents(scene, times_s)
    out = [f"{seed}: {a} and {b}" for a, b in sorted(meetings_of_agents(agents))]
    return out + [f"{seed}: {a} in something solid" for a in sorted(meetings_with_solids(agents, solid_points(scene)))]


def test_the_count_finds_what_meets():
    # A car that drives through a person and a lamp, and a bicycle with its rider that meets nobody.
    scene = describe(3)
    things = (
        Thing(kind="car", variant=0, s=10.0, t=30.0, speed=5.0, instance=0),
        Thing(kind="person", variant=3, s=30.0, t=30.5, instance=1),
        Thing(kind="lamp", variant=3, s=40.0, t=30.0),
        Thing(kind="bicycle", variant=0, s=10.0, t=34.5, speed=5.0, instance=2),
        Thing(kind="cyclist", variant=0, s=10.0, t=34.5, speed=5.0, instance=3),
    )
    scene = replace(scene, things=things, buildings=(), strips=(), street=replace(scene.street, bend=(0.0,) * 7))
    agents = Agents(scene, np.arange(0, 8, 0.25))
    assert meetings_of_agents(agents) == {("car 0", "person 1 (standing)")}
    assert meetings_with_solids(agents, solid_points(scene)) == {"car 0"}


def test_nothing_passes_through_anything():
    found = list(itertools.chain.from_iterable(check(seed, np.arange(0, 30, 1.5)) for seed in (0, 1, 2)))
    assert not found, "\n".join(found)


@pytest.mark.slow
def test_nothing_passes_through_anything_in_twenty_places():
    found = list(itertools.chain.from_iterable(check(seed, np.arange(0, 30.1, 0.4)) for seed in range(100, 120)))
    assert not found, "\n".join(found)


def test_nothing_passes_through_anything_in_a_drive():
    assert not check_drive(7, 60.0, 4.0)


@pytest.mark.slow
def test_nothing_passes_through_anything_in_drives_of_two_minutes():
    found = list(itertools.chain.from_iterable(check_drive(seed, 120.0, 0.5) for seed in range(300, 308)))
    assert not found, "\n".join(found)
