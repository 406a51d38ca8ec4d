"""Real lidar sweeps next to those of the synthetic world: one table per data set, and plots.

    zoo synthetic --layout semantickitti --frames 40 --scenes 40 --seed 5000 --size 94x310 --out runs/world-kitti
    zoo synthetic --layout nuscenes --frames 20 --scenes 20 --seed 5000 --size 90x160 --sweeps 0 \\
        --out runs/world-nuscenes
    python benchmarks/lidar_realism.py --semantickitti REAL/semantickitti --kitti REAL/kitti --nuscenes REAL/nuscenes \\
        --lidarseg REAL/lidarseg11 --world-kitti runs/world-kitti --world-nuscenes runs/world-nuscenes

with any real sweeps in the folders of SemanticKITTI, KITTI's object data set and nuScenes; `--lidarseg` is a plain
folder of `points/*.bin` (five float32 per point, as nuScenes has them) and `labels/*.label` (uint32, eleven classes).

Every row is one number per sweep, and the median over the sweeps is printed: one sweep with a hedge next to the road
does not decide a row. The shares of classes are means, since rare classes have a median of 0. The rows, by what is
measured:

- `intensity`: KITTI's are 0 to 1, nuScenes' 0 to 255. Medians of all points, of one class, of one band of range.
- `zeros`: share of points whose intensity is exactly 0. `distinct`: how many different intensities a sweep has.
- `share`: of a class among all points; the real column of KITTI is the content table of `semantic-kitti.yaml` (all
  sequences), since one scan shows one street.
- `residual`: standard deviation, in metres, of the heights of a class's points within 25 m (from above) about the
  plane fitted to them by least squares. `cross-fall`: slope of the road's plane across the vehicle.
- `height`: above the nominal ground, 1.73 m below KITTI's lidar, 1.84 m below that of nuScenes; 5 and 95 % quantiles.
- `roughness`: of three neighbours in a ring with ranges a, b, c: |a / 2 - b + c / 2| / b. A plane at a distance has
  nearly 0; what is left is noise and relief smaller than a footprint.
- `points`: number with a range in that band. `order`: number of rows in the file (a KITTI file is ring by ring, and a
  ring begins where the azimuth, which grows, passes straight ahead), and the elevation of the first one.
- `car width`: of the boxes of cars.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import tyro
import yaml

matplotlib.use("Agg")

from matplotlib import pyplot as plt

_BANDS = ((0, 5), (5, 8), (8, 12), (12, 20), (20, 30), (30, 60), (60, 200))
_KITTI = {
    "road": (40, 60),
    "sidewalk": (48,),
    "terrain": (72,),
    "building": (50,),
    "vegetation": (70,),
    "car": (10, 252),
    "fence": (51,),
    "pole": (80,),
    "trunk": (71,),
    "unlabelled": (0, 1, 52, 99),  # those that the data set's table maps to no class
}
_LIDARSEG11 = [
    "road",
    "sidewalk",
    "building",
    "pole",
    "vegetation",
    "person",
    "two-wheeler",
    "car",
    "truck",
    "bus",
    "none",
]
_LIDARSEG = {24: "road", 26: "sidewalk", 27: "terrain", 28: "building", 30: "vegetation", 17: "car", 23: "truck"}


@dataclass(frozen=True)
class Scan:
    """One sweep: `(N, 3)` metres (x ahead), `(N,)` intensity, class names by number, rings, height of the lidar."""

    points: np.ndarray
    intensity: np.ndarray
    label: np.ndarray
    classes: tuple[str, ...]
    ring: np.ndarray
    mount_m: float

    @property
    def range_m(self) -> np.ndarray:
        """`(N,)` metres."""
        return np.linalg.norm(self.points, axis=1)

    def of(self, name: str) -> np.ndarray:
        """`(N,)` bool."""
        return self.label == self.classes.index(name) if name in self.classes else np.zeros(len(self.label), bool)


def rings_by_order(points: np.ndarray) -> np.ndarray:
    """`(N,)` row of each point of a KITTI file: a row begins where the azimuth, which grows, passes straight ahead."""
    azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    passes = (azimuth[1:] >= 0) & (azimuth[:-1] < 0) & (np.abs(azimuth[1:]) < 90) & (np.abs(azimuth[:-1]) < 90)
    return np.concatenate([[0], np.cumsum(passes)])


def _kitti_scan(points: Path, labels: Path | None) -> Scan:
    values = np.fromfile(points, "<f4").reshape(-1, 4).astype(float)
    label = np.full(len(values), -1)
    if labels is not None and labels.exists():
        raw = np.fromfile(labels, "<u4") & 0xFFFF
        for number, ids in enumerate(_KITTI.values()):
            label[np.isin(raw, ids)] = number
    return Scan(values[:, :3], values[:, 3], label, tuple(_KITTI), rings_by_order(values[:, :3]), 1.73)


def kitti_scans(folder: Path) -> list[Scan]:
    """Sweeps of a folder in the layout of KITTI's objects (no labels of points) or of SemanticKITTI."""
    files = sorted(folder.glob("*/velodyne/*.bin")) or sorted(folder.glob("sequences/*/velodyne/*.bin"))
    return [_kitti_scan(file, file.parents[1] / "labels" / f"{file.stem}.label") for file in files]


def _nuscenes_scan(values: np.ndarray, label: np.ndarray, classes: Iterable[str]) -> Scan:
    ahead = np.stack([values[:, 1], -values[:, 0], values[:, 2]], 1).astype(float)
    return Scan(ahead, values[:, 3].astype(float), label, tuple(classes), values[:, 4].astype(int), 1.84)


def nuscenes_scans(folder: Path) -> list[Scan]:
    """Keyframes of a folder in the layout of nuScenes, with their lidarseg labels if there are any."""
    seg = {}
    for table in folder.glob("v1.0-*/lidarseg.json"):
        names = {
            row["token"]: Path(row["filename"]).name
            for row in json.loads((table.parent / "sample_data.json").read_text())
        }
        seg = {names[row["sample_data_token"]]: folder / row["filename"] for row in json.loads(table.read_text())}
    out = []
    for file in sorted(folder.glob("samples/LIDAR_TOP/*.bin")):
        values = np.fromfile(file, "<f4").reshape(-1, 5)
        label = np.full(len(values), -1)
        if file.name in seg:
            raw = np.fromfile(seg[file.name], np.uint8)
            for number, index in enumerate(_LIDARSEG):
                label[raw == index] = number
        out.append(_nuscenes_scan(values, label, _LIDARSEG.values()))
    return out


def lidarseg_scans(folder: Path) -> list[Scan]:
    """A plain folder of `points` and `labels` in the eleven classes of `_LIDARSEG11`."""
    return [
        _nuscenes_scan(
            np.fromfile(file, "<f4").reshape(-1, 5),
            np.fromfile(folder / "labels" / f"{file.stem}.label", "<u4").astype(int),
            _LIDARSEG11,
        )
        for file in sorted((folder / "points").glob("*.bin"))
    ]


# --- rows -------------------------------------------------------------------------------------------------------------


def plane(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Slopes and height of the plane through `(N, 3)` points by least squares, and the deviation of the heights."""
    matrix = np.concatenate([points[:, :2], np.ones((len(points), 1))], 1)
    found = np.linalg.lstsq(matrix, points[:, 2], rcond=None)[0]
    return found, float((points[:, 2] - matrix @ found).std())


def roughness(scan: Scan, name: str) -> np.ndarray:
    """Of the class's points that have a neighbour on each side in their ring, see the module's text."""
    order = np.argsort(scan.ring, kind="stable")
    reach, ring, mine = scan.range_m[order], scan.ring[order], scan.of(name)[order]
    here = mine[1:-1] & (ring[:-2] == ring[2:]) & (reach[1:-1] > 1)
    return (np.abs(reach[:-2] / 2 - reach[1:-1] + reach[2:] / 2) / np.maximum(reach[1:-1], 1))[here]


def _near(scan: Scan, name: str) -> np.ndarray:
    points = scan.points[scan.of(name)]
    return points[np.hypot(points[:, 0], points[:, 1]) < 25]


def _plane_row(name: str, what: int | None) -> Callable[[Scan], float]:
    def row(scan: Scan) -> float:
        points = _near(scan, name)
        if len(points) < 100:
            return np.nan
        slopes, residual = plane(points)
        return residual if what is None else abs(float(slopes[what]))

    return row


def _quantile(values: np.ndarray, q: float) -> float:
    return float(np.quantile(values, q)) if len(values) >= 50 else np.nan


def _within(scan: Scan, low: float, high: float) -> np.ndarray:
    return (scan.range_m >= low) & (scan.range_m < high)


def _of_next_to_road(name: str) -> Callable[[Scan], float]:
    """Median intensity of a class within 30 m over that of the road within 30 m."""

    def row(scan: Scan) -> float:
        near = scan.range_m < 30
        return _quantile(scan.intensity[scan.of(name) & near], 0.5) / max(
            _quantile(scan.intensity[scan.of("road") & near], 0.5), 1e-3
        )

    return row


def rows(scan: Scan) -> dict[str, float]:
    """Every row of the table for one sweep; NaN where the sweep has too few points for it."""
    shine, labelled = scan.intensity, (scan.label >= 0).any()
    out = {
        "points": float(len(shine)),
        "intensity, median": _quantile(shine, 0.5),
        "intensity, distinct": float(len(np.unique(shine))),
        "intensity, zeros": float((shine == 0).mean()),
    }
    for low, high in _BANDS:
        at = _within(scan, low, high)
        out[f"intensity at {low}-{high} m"] = _quantile(shine[at], 0.5)
        out[f"zeros at {low}-{high} m"] = float((shine[at] == 0).mean()) if at.any() else np.nan
    for low, high in ((0, 2.5), (20, 30), (30, 60)):
        out[f"points at {low}-{high} m"] = float(_within(scan, low, high).sum())
    elevation = np.degrees(np.arctan2(scan.points[:, 2], np.hypot(scan.points[:, 0], scan.points[:, 1])))
    out["order: rings"] = float(scan.ring.max() + 1)
    out["order: top ring first, its elevation"] = _quantile(elevation[scan.ring == 0], 0.5)
    if not labelled:
        return out
    for name in scan.classes:
        mine = scan.of(name)
        out[f"share of {name}"] = float(mine.mean())
        out[f"intensity of {name}"] = _quantile(shine[mine], 0.5)
    for name in ("road", "sidewalk", "terrain"):
        height = scan.points[scan.of(name), 2] + scan.mount_m
        out[f"residual of {name}, m"] = _plane_row(name, None)(scan)
        out[f"height of {name}, 5 %"] = _quantile(height, 0.05)
        out[f"height of {name}, 95 %"] = _quantile(height, 0.95)
        for q in (0.5, 0.9):
            out[f"roughness of {name}, {100 * q:.0f} %"] = _quantile(roughness(scan, name), q)
    out["cross-fall of road"] = _plane_row("road", 1)(scan)
    for name in ("building", "car"):
        out[f"{name} over road, intensity"] = _of_next_to_road(name)(scan)
    return out


def summary(scans: list[Scan]) -> dict[str, float]:
    """Median over the sweeps of every row, means for shares; a row without a value is left out."""
    table: dict[str, list[float]] = {}
    for scan in scans:
        for name, value in rows(scan).items():
            table.setdefault(name, []).append(value)
    out = {}
    for name, values in table.items():
        known = np.array(values)[np.isfinite(values)]
        if len(known):
            out[name] = float(known.mean() if name.startswith("share") else np.median(known))
    return out


def content(folder: Path) -> dict[str, float]:
    """Shares of points of the whole data set, of the table in `semantic-kitti.yaml`."""
    ratios = yaml.safe_load((folder / "semantic-kitti.yaml").read_text())["content"]
    return {f"share of {name}": sum(ratios.get(raw, 0.0) for raw in ids) for name, ids in _KITTI.items()}


def car_widths(folder: Path) -> dict[str, float]:
    """Median, 5 and 95 % of the widths of cars' boxes in `label_2`, or in the tables of nuScenes."""
    widths = [
        float(line.split()[9])
        for file in folder.glob("training/label_2/*.txt")
        for line in file.read_text().splitlines()
        if line.startswith("Car ")
    ]
    for table in folder.glob("v1.0-*/sample_annotation.json"):
        names = {row["token"]: row["name"] for row in json.loads((table.parent / "category.json").read_text())}
        kinds = {
            row["token"]: names[row["category_token"]]
            for row in json.loads((table.parent / "instance.json").read_text())
        }
        cars = [row for row in json.loads(table.read_text()) if kinds[row["instance_token"]] == "vehicle.car"]
        widths += [row["size"][0] for row in cars]
    if not widths:
        return {}
    return {f"car width, {q} %, m": float(np.percentile(widths, q)) for q in (5, 50, 95)}


# --- output -----------------------------------------------------------------------------------------------------------


def markdown(title: str, real: dict[str, float], world: dict[str, float]) -> str:
    """A table of the rows that the real sweeps have, with the ratio real / world."""
    lines = [f"## {title}", "", "| | real | world | real / world |", "| --- | --- | --- | --- |"]
    for name, a in real.items():
        b = world.get(name)
        ratio = f"{a / b:.2f}" if a is not None and b else "-"
        lines.append(f"| {name} | {_text(a)} | {_text(b)} | {ratio} |")
    return "\n".join(lines) + "\n"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def plot(path: Path, real: list[Scan], world: list[Scan]) -> None:
    """Histogram of intensity, intensity and share of zeros by range, points by range, of real and synthetic sweeps."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), layout="constrained")
    edges = np.array([0, 2.5, 5, 8, 12, 16, 20, 25, 30, 40, 50, 60, 80])
    top = 1.0 if max(scan.intensity.max() for scan in real) <= 1 else 255.0
    for name, scans, color in (("real", real, "C0"), ("world", world, "C1")):
        shine = np.concatenate([scan.intensity for scan in scans])
        reach = np.concatenate([scan.range_m for scan in scans])
        axes[0, 0].hist(shine, np.linspace(0, top, 101), histtype="step", density=True, label=name, color=color)
        bands = [shine[(reach >= low) & (reach < high)] for low, high in itertools.pairwise(edges)]
        for q, style in ((0.25, ":"), (0.5, "-"), (0.75, ":")):
            values = [np.quantile(band, q) if len(band) else np.nan for band in bands]
            axes[0, 1].plot(edges[1:], values, style, color=color)
        axes[1, 0].plot(edges[1:], [(band == 0).mean() if len(band) else np.nan for band in bands], color=color)
        axes[1, 1].plot(edges[1:], [len(band) / len(scans) for band in bands], color=color)
    for axis, title in zip(
        axes.flat, ("intensity", "intensity by range: quartiles", "share of zeros by range", "points per sweep")
    ):
        axis.set_title(title)
    axes[0, 0].legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def plot_classes(path: Path, real: list[Scan], world: list[Scan]) -> None:
    """Intensity of each class, real and synthetic."""
    names = [n for n in real[0].classes if any(s.of(n).any() for s in real) and any(s.of(n).any() for s in world)]
    figure, axes = plt.subplots(1, len(names), figsize=(2.1 * len(names), 2.8), sharey=False, layout="constrained")
    top = 1.0 if max(scan.intensity.max() for scan in real) <= 1 else 120.0
    for name, axis in zip(names, np.atleast_1d(axes)):
        for scans, color in ((real, "C0"), (world, "C1")):
            shine = np.concatenate([scan.intensity[scan.of(name)] for scan in scans])
            axis.hist(shine, np.linspace(0, top, 41), histtype="step", density=True, color=color)
        axis.set_title(name, fontsize=9)
        axis.set_yticks([])
    figure.savefig(path, dpi=90)
    plt.close(figure)


@dataclass(frozen=True)
class Arguments:
    """Compares real and synthetic sweeps; give at least one real folder and the world's of the same sensor."""

    semantickitti: Path | None = None
    """Real folder with `sequences` and `semantic-kitti.yaml`."""
    kitti: Path | None = None
    """Real folder with `training/velodyne`: intensities, ranges and boxes only."""
    nuscenes: Path | None = None
    """Real folder with `samples/LIDAR_TOP`."""
    lidarseg: Path | None = None
    """Real folder with `points` and `labels`, 32 beams."""
    world_kitti: Path | None = None
    """Written by `zoo synthetic --layout semantickitti`."""
    world_boxes: Path | None = None
    """Written by `zoo synthetic --layout kitti`, for the widths of cars; `--world-nuscenes` has boxes of its own."""
    world_nuscenes: Path | None = None
    """Written by `zoo synthetic --layout nuscenes`."""
    out: Path = Path("runs/lidar-realism")
    """Folder for the table and the plots."""


def main(arguments: Arguments) -> None:
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = []

    def compare(title: str, real: list[Scan], world: list[Scan], more: tuple[dict, dict] = ({}, {})) -> None:
        text.append(markdown(title, summary(real) | more[0], summary(world) | more[1]))
        name = title.split(" ")[0].lower()
        plot(arguments.out / f"{name}.png", real, world)
        if (real[0].label >= 0).any():
            plot_classes(arguments.out / f"{name}-classes.png", real, world)

    kitti = kitti_scans(arguments.world_kitti) if arguments.world_kitti else []
    nuscenes = nuscenes_scans(arguments.world_nuscenes) if arguments.world_nuscenes else []
    if arguments.semantickitti and kitti:
        shares = content(arguments.semantickitti)
        compare("SemanticKITTI", kitti_scans(arguments.semantickitti), kitti, (shares, {}))
    if arguments.kitti and kitti:
        widths = car_widths(arguments.kitti), car_widths(arguments.world_boxes) if arguments.world_boxes else {}
        compare("KITTI, without labels", kitti_scans(arguments.kitti), kitti, widths)
    if arguments.nuscenes and nuscenes:
        widths = car_widths(arguments.nuscenes), car_widths(arguments.world_nuscenes or Path())
        compare("nuScenes, whole sweeps", nuscenes_scans(arguments.nuscenes), nuscenes, widths)
    if arguments.lidarseg and nuscenes:
        compare("lidarseg11, labelled", lidarseg_scans(arguments.lidarseg), nuscenes)
    if not text:
        raise SystemExit("nothing to compare: give a real folder and the world's folder of the same sensor (--help)")
    (arguments.out / "table.md").write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
