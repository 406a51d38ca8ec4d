"""Training on sweeps: the Lovász loss by hand and by finite differences, augmentation, subsets, and whole runs."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from test_range_image import sweep

import zoo
from zoo.cli import main
from zoo.errors import InputError
from zoo.folder.catalogue import Entry, entries
from zoo.frame import Frame, SensorFacts, Sweep
from zoo.inputs.points import PointsInput
from zoo.inputs.range_image import RangeImageInput
from zoo.sensors import KITTI
from zoo.training.augment_points import PointAugmentation, augment, laser_mix
from zoo.training.losses import lovasz_softmax
from zoo.training.samples import Source
from zoo.training.sweeps import Collate, SweepStream, label_subset, sensor_of

STILL = PointAugmentation(rotate_deg=0, flip=0, scale=(1, 1))


# --- loss -------------------------------------------------------------------------------------------------------------


def test_the_lovasz_loss_by_hand() -> None:
    """Two classes, three points.

    Class 0 occurs once: errors 0.4 (point 0), 0.7 (point 1), 0.2 (point 2), in falling order 0.7, 0.4, 0.2. With the
    first of them wrong, one minus IoU is 1 - 1 / 2; with the first two, 1 - 0 / 2 = 1; with all, 1. The loss is
    0.7 * 0.5 + 0.4 * 0.5 + 0.2 * 0 = 0.55.
    Class 1 occurs twice, errors in the same order: 1 - 1 / 2, then 1 - 1 / 3, then 1, so the steps are 0.5, 1/6, 1/3
    and the loss is 0.7 / 2 + 0.4 / 6 + 0.2 / 3 = 0.35 + 0.4 / 3.
    """
    probabilities = torch.tensor([[0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.5, 0.5]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 255])
    expected = (0.55 + 0.35 + 0.4 / 3) / 2
    assert lovasz_softmax(probabilities, labels, 255).item() == pytest.approx(expected, abs=1e-12)


def test_the_lovasz_loss_of_hard_predictions_is_one_minus_iou() -> None:
    """At corners of the cube the extension equals the set function, whatever the tie-breaking of the sort."""
    for truth in itertools.product(range(3), repeat=3):
        for guess in itertools.product(range(3), repeat=3):
            ious = []
            for c in set(truth):
                both = sum(t == c and g == c for t, g in zip(truth, guess, strict=True))
                either = sum(t == c or g == c for t, g in zip(truth, guess, strict=True))
                ious.append(both / either)
            hard = torch.eye(3, dtype=torch.float64)[list(guess)]
            assert lovasz_softmax(hard, torch.tensor(truth), 9).item() == pytest.approx(1 - sum(ious) / len(ious))


def test_gradients_of_the_lovasz_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0, 1, 1, 0, 7, 2, 2, 0, 1])
    assert torch.autograd.gradcheck(lambda values: lovasz_softmax(values.softmax(1), labels, 7), logits)
    nothing = lovasz_softmax(logits.softmax(1), torch.full((12,), 7), 7)
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.any()


# --- augmentation -----------------------------------------------------------------------------------------------------


def changed(seed: int = 0, **settings: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The sweep, the changed sweep, and the changed labels, which were the numbers of the points."""
    points = sweep(4000)
    augmentation = dataclasses.replace(STILL, **settings)
    found, numbers = augment(points, np.arange(4000), augmentation, np.random.default_rng(seed))
    return points, found, numbers


def test_nothing_changes_without_augmentation() -> None:
    points, found, numbers = changed()
    np.testing.assert_array_equal(found, points)
    np.testing.assert_array_equal(numbers, np.arange(4000))


def test_rotation_flip_and_scale_keep_what_they_should() -> None:
    points, found, _ = changed(rotate_deg=180)
    np.testing.assert_allclose(found[:, 2:], points[:, 2:], atol=1e-4)
    np.testing.assert_allclose(np.hypot(*found[:, :2].T), np.hypot(*points[:, :2].T), rtol=1e-4)
    turned = np.angle((found[:, 0] + 1j * found[:, 1]) / (points[:, 0] + 1j * points[:, 1]))
    assert np.ptp(turned) < 1e-3
    assert abs(turned[0]) > 0.01
    points, found, _ = changed(flip=1)
    np.testing.assert_array_equal(found, points * [1, -1, 1, 1])
    points, found, _ = changed(scale=(1.5, 1.5))
    np.testing.assert_allclose(found, points * np.float32([1.5, 1.5, 1.5, 1]), rtol=1e-5)


def test_tilt_lift_and_relief() -> None:
    points, found, _ = changed(tilt_deg=2.0)
    np.testing.assert_allclose(np.linalg.norm(found[:, :3], axis=1), np.linalg.norm(points[:, :3], axis=1), rtol=1e-4)
    assert np.abs(found - points).max() > 0.1
    points, found, _ = changed(lift_m=0.5)
    assert np.ptp(found[:, 2] - points[:, 2]) < 1e-4
    assert abs((found - points)[0, 2]) > 1e-3
    points, found, _ = changed(relief_m=1.0)
    np.testing.assert_array_equal(found[:, [0, 1, 3]], points[:, [0, 1, 3]])
    assert 0.05 < np.abs(found[:, 2] - points[:, 2]).max() <= 2  # of both signs, less that at the sensor


def test_lost_points_and_boxes() -> None:
    points, found, numbers = changed(point_drop=0.9, seed=1)
    assert 400 < len(found) < 4000
    np.testing.assert_array_equal(found, points[numbers])
    points, found, numbers = changed(cuboid_drop=1)
    lost = np.delete(points, numbers, 0)
    assert len(lost)
    low, high = lost[:, :3].min(0), lost[:, :3].max(0)
    assert not ((found[:, :3] > low) & (found[:, :3] < high)).all(1).any()  # none inside is left
    assert ((high - low) <= 0.2 * np.ptp(points[:, :3], axis=0) + 1e-3).all()


@pytest.mark.parametrize("known", ["number of beams", "ring"])
def test_whole_beams_are_lost(known: str) -> None:
    """Every second, third or fourth of 32 beams, 4/3 degrees apart as in nuScenes, is left, with all of its points."""
    beam = np.tile(np.arange(32), 200)
    elevation, azimuth = np.radians(-30.67 + 4 / 3 * beam), np.repeat(np.arange(200) / 30, 32)
    directions = np.column_stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    distance = np.random.default_rng(0).uniform(3, 50, len(beam))
    shuffled = (beam * 7) % 32  # the column counts, whatever the elevation
    points = np.column_stack([directions * distance[:, None], distance / 50, shuffled]).astype(np.float32)
    ring, beams, column = (4, None, shuffled) if known == "ring" else (None, 32, beam)
    seen = set()
    for seed in range(20):
        settings = dataclasses.replace(STILL, beam_drop=1.0)
        _, numbers = augment(
            points, np.arange(len(beam)), settings, np.random.default_rng(seed), ring=ring, beams=beams
        )
        kept, counts = np.unique(column[numbers], return_counts=True)
        assert (counts == 200).all()
        (gap,) = set(np.diff(kept))
        seen.add(gap)
    assert seen == {2, 3, 4}


def test_beams_of_a_sensor_with_an_unknown_number_of_them() -> None:
    points, found, numbers = changed(beam_drop=1)
    np.testing.assert_array_equal(found, points[numbers])
    assert 0.1 < len(found) / len(points) < 0.6


@pytest.mark.parametrize("steps", [100, 255])
def test_intensities_stay_in_the_steps_of_the_sensor(steps: int) -> None:
    points = sweep(4000)
    points[:, 3] = np.round(points[:, 3] * steps) / steps
    settings = dataclasses.replace(STILL, intensity_jitter=1.0)
    found, _ = augment(points, np.arange(4000), settings, np.random.default_rng(1))
    in_steps = found[:, 3] * np.float32(steps)
    assert np.abs(in_steps - np.round(in_steps)).max() < 1e-3
    assert not np.allclose(found[:, 3], points[:, 3])
    assert len(np.unique(found[:, 3])) > 20


def test_intensities() -> None:
    assert not changed(intensity_drop=1)[1][:, 3].any()
    points, found, _ = changed(intensity_jitter=1.0)
    assert found[:, 3].min() >= 0
    assert found[:, 3].max() <= 1
    assert not np.allclose(found[:, 3], points[:, 3])
    order = np.argsort(points[:, 3])
    assert (np.diff(found[order, 3]) >= 0).all()  # brighter stays brighter
    np.testing.assert_array_equal(found[:, :3], points[:, :3])


def test_laser_mix_takes_bands_in_turn() -> None:
    one, other = sweep(3000, 1), sweep(3000, 2)
    points, labels = laser_mix((one, np.zeros(3000)), (other, np.ones(3000)), np.random.default_rng(0))
    np.testing.assert_array_equal(points[labels == 0], one[[any((p == points).all(1)) for p in one]])
    elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    switches = np.count_nonzero(np.diff(labels[np.argsort(elevation)]))
    assert 2 <= switches <= 5  # three to six bands, each of one sweep


# --- subsets, sensors and the stream ----------------------------------------------------------------------------------


def frames_of(scenes: int, each: int) -> list[Frame]:
    return [Frame(id=f"{i}-{j}", scene=f"s{i}") for i in range(scenes) for j in range(each)]


def test_published_subsets() -> None:
    files = frames_of(10, 30)
    assert [frame.id for frame in label_subset("semantickitti", files, 1)] == ["0-0", "3-10", "6-20"]
    for percent, count in ((1, 3), (5, 15), (10, 30), (25, 75), (100, 300)):
        assert len(label_subset("semantickitti", files, percent)) == count


def test_the_published_scenes_of_nuscenes() -> None:
    """SLidR's loop, written out: it walks through scene.json, whose order is not that of the names, and counts."""
    drawn = np.random.default_rng(0).permutation(850)
    table = [f"scene-{number:04d}" for number in drawn]
    split = set(table[::7] + table[::2])
    frames = [
        Frame(id=f"{name}-{k}", scene=name, meta={"scene_row": row})
        for row, name in sorted(enumerate(table), key=lambda item: item[1])
        if name in split
        for k in range(2)
    ]
    for percent in (1, 5, 10, 25, 100):
        skip_ratio, skip_counter, expected = 100 // percent, 0, []
        for name in table:
            if name in split:
                skip_counter += 1
                if skip_counter % skip_ratio == 0:
                    expected.append(name)
        found = label_subset("nuscenes", frames, percent)
        assert {frame.scene for frame in found} == set(expected)
        assert len(found) == 2 * len(expected)
    few = [frame for frame in frames if frame.scene in table[:20]]
    with pytest.raises(InputError, match=r"every 100th of \d+ scenes is none"):
        label_subset("nuscenes", few, 1)


def test_the_sensor_that_is_recorded() -> None:
    lengths = [10, 30, 20]
    frames = [
        Frame(id="f", lidars={"top": (Sweep(points_source=sweep(n), labels_source=np.zeros(n, np.uint8)),)})
        for n in lengths
    ]
    assert sensor_of(frames) == SensorFacts(points=20, intensity_scale="0-1")
    known = dataclasses.replace(frames[0].lidars["top"][0], sensor=KITTI)
    assert sensor_of([Frame(id="f", lidars={"top": (known,)})]) == KITTI


@pytest.mark.parametrize("kind", ["points", "range_image"])
def test_the_stream_is_a_function_of_the_seed(kind: str) -> None:
    frames = [
        Frame(
            id=f"f{i}",
            lidars={"top": (Sweep(points_source=sweep(200 + i, i), labels_source=np.full(200 + i, i, "u1")),)},
        )
        for i in range(5)
    ]
    source = Source(frames, np.arange(256, dtype=np.uint8))
    facts = SensorFacts(forward="+y", left="-x", up="+z")
    points = PointsInput(sensor=facts)
    made = points if kind == "points" else RangeImageInput(points=points)
    # Shuffled, sparse clouds are not streets, so nothing but their axes is checked.
    augmentation = PointAugmentation(point_drop=0.5, laser_mix=0.5, intensity_jitter=1)
    streams = [SweepStream([source], total=12, input=made, augmentation=augmentation, seed=s) for s in (0, 0, 1)]
    one, same, other = ([stream[p] for p in range(12)] for stream in streams)
    for (prepared, labels), (again, labels_again) in zip(one, same, strict=True):
        assert set(labels) <= set(range(5))
        np.testing.assert_array_equal(labels, labels_again)
        for name, array in prepared.arrays.items():
            np.testing.assert_array_equal(array, again.arrays[name])
    assert any(a[0].arrays["points"].shape != b[0].arrays["points"].shape for a, b in zip(one, other, strict=True))
    names = ("points", "batch_index") if kind == "points" else ("image", "points", "pixel")
    tensors, labels = Collate(made, names)(one[:3])
    assert len(labels) == sum(len(each) for _, each in one[:3]) == len(tensors[names.index("points")])


def test_augmentation_turns_about_the_vertical_of_the_sensor() -> None:
    """With nuScenes' axes: what is up stays up, and a flip exchanges left and right, the sensor's x."""
    frame = Frame(id="f", lidars={"top": (Sweep(points_source=sweep(300), labels_source=np.zeros(300, np.uint8)),)})
    made = PointsInput(sensor=SensorFacts(forward="+y", left="-x", up="+z"))
    settings = dataclasses.replace(STILL, flip=1.0)
    stream = SweepStream([Source([frame], np.zeros(256, "u1"))], total=1, input=made, augmentation=settings, seed=0)
    prepared, _ = stream[0]
    np.testing.assert_allclose(prepared.arrays["points"], sweep(300) * [-1, 1, 1, 1], atol=1e-6)


# --- runs -------------------------------------------------------------------------------------------------------------

TINY_RANGE = {
    "class": "zoo.encoders.range_unet:RangeUNet",
    "arguments": {
        "rows": 16,
        "columns": 64,
        "stem_width": 8,
        "levels": [0, 1],
        "options": {"channels": [8, 8, 8, 8]},
        "width": 8,
        "out_width": 8,
    },
}
TINY_MINK = {
    "class": "zoo.encoders.minkunet:MinkUNet",
    "arguments": {"layers": [1] * 8, "width": 4, "voxel_size": 1.0},
}
TINY = {
    "range": (TINY_RANGE, {"kind": "range_image", "projection": {"rows": 16, "columns": 64}}),
    "mink": (TINY_MINK, {"kind": "points", "channels": ["x", "y", "z", "intensity"]}),
}


def own_folder(root: Path, count: int = 6) -> Path:
    """Sweeps of a street in the layout of `folder`: the ground is low, a wall is to the left, a tree to the right."""
    for name in ("points", "labels"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        generator = np.random.default_rng(i)
        ground = np.column_stack([generator.uniform(-20, 20, (900, 2)), np.full(900, -1.73)])
        wall = np.column_stack([generator.uniform(-20, 20, 300), np.full(300, 8.0), generator.uniform(-1.5, 2, 300)])
        tree = generator.normal((5, -6, 0.5), 0.5, (300, 3))
        points = np.column_stack([np.concatenate([ground, wall, tree]), generator.random(1500)]).astype("<f4")
        points.tofile(root / "points" / f"{i:02d}.bin")
        np.repeat([0, 1, 2], [900, 300, 300]).astype("<u4").tofile(root / "labels" / f"{i:02d}.label")
    facts = {"forward": "+x", "up": "+z", "height_m": 1.73, "intensity_scale": "0-1", "sweeps": 1}
    classes = {"name": "street", "names": ["ground", "wall", "tree"], **facts}
    (root / "classes.yaml").write_text(yaml.safe_dump(classes))
    rows = ["file,scene", *(f"{i:02d}.bin,s{i // 2}" for i in range(count))]
    (root / "frames.csv").write_text("\n".join(rows))
    return root


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two small models in the catalogue, and a folder of labelled sweeps."""
    for name, (encoder, section) in TINY.items():
        known = entries()["supervised-rangeunet-synthetic.pointwise-synthetic"]
        architecture = {"encoder": encoder, "head": {"class": "zoo.heads.pointwise:PointwiseHead"}}
        row: Entry = dataclasses.replace(known, name=f"tiny-{name}", architecture=architecture, inputs=(section,))
        monkeypatch.setitem(entries(), row.name, row)  # type: ignore[arg-type]
    return own_folder(tmp_path / "data")


QUICK = {
    "--steps": "6", "--warmup": "0", "--batch": "2", "--workers": "0", "--device": "cpu", "--holdout": "0.3",
    "--evaluate-every": "3", "--checkpoint-every": "1", "--log-every": "1",
}  # fmt: skip


def words(data: Path, out: Path, model: str, *more: str) -> list[str]:
    """The command of a short run; `more` replaces its options."""
    options = {"--model": model, "--data": f"folder={data}", "--out": str(out), **QUICK}
    kept = [word for option, value in options.items() if option not in more for word in (option, value)]
    return ["train", "lidar-segmenter", *kept, *more]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", TINY)
def test_a_run_makes_a_folder_and_is_resumed_exactly(tiny: Path, tmp_path: Path, name: str, capsys: Any) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(words(tiny, whole, f"tiny-{name}")) == 0
    assert main(words(tiny, parts, f"tiny-{name}", "--max-minutes", "1e-5")) == 2
    assert "continue with --resume" in capsys.readouterr().err
    assert main(words(tiny, parts, f"tiny-{name}", "--resume")) == 0
    expected, found = weights(whole / "model"), weights(parts / "model")
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    config = json.loads((whole / "model" / "config.json").read_text())
    sensor = config["inputs"][0]["sensor"]
    assert {key: sensor[key] for key in ("forward", "up", "height_m", "points")} == {
        "forward": "+x", "up": "+z", "height_m": 1.73, "points": 1500,
    }  # fmt: skip
    assert config["output"]["classes"]["names"] == ["ground", "wall", "tree"]
    assert config["provenance"]["training_frames"] == [4]
    assert config["provenance"]["holdout_frames"] == 2
    assert config["training_data"] == ["street (train)"]
    assert config["licence"]["weights"] == "unknown"
    sweep_path = tiny / "points" / "05.bin"
    assert main(["predict", str(whole / "model"), str(sweep_path), "--out", str(tmp_path / "out")]) == 0
    assert len(np.fromfile(tmp_path / "out" / "05.label", "<u4")) == 1500


@pytest.mark.parametrize("name", TINY)
def test_a_small_run_learns(tiny: Path, tmp_path: Path, name: str) -> None:
    """Ground, wall and tree lie in different places: a few steps tell them apart on held-back sweeps."""
    more = ["--steps", "60", "--evaluate-every", "60", "--augmentation.rotate-deg", "10", "--augmentation.flip", "0"]
    more += ["--augmentation.laser-mix", "0", "--augmentation.beam-drop", "0", "--average-decay", "0.8"]
    more += ["--learning-rate", "0.01"]
    assert main(words(tiny, tmp_path / "out", f"tiny-{name}", *more)) == 0
    last = (tmp_path / "out" / "log.csv").read_text().split()[-1]
    assert float(last.split(",")[-1]) > 0.8
    prediction = zoo.load(tmp_path / "out" / "model")(tiny / "points" / "05.bin")
    assert (prediction.labels == np.repeat([0, 1, 2], [900, 300, 300])).mean() > 0.9


def test_linear_probing_moves_the_head_alone(tiny: Path, tmp_path: Path) -> None:
    assert main(words(tiny, tmp_path / "first", "tiny-range")) == 0
    start = tmp_path / "first" / "model"
    assert main(words(tiny, tmp_path / "probe", "tiny-range", "--preset", "probe", "--init", str(start))) == 0
    before, after = weights(start), weights(tmp_path / "probe" / "model")
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"head.classifier.0.weight", "head.classifier.0.bias"}
    assert "trained from" in json.loads((tmp_path / "probe" / "model" / "config.json").read_text())["description"]


def test_a_share_of_the_labels(tiny: Path, tmp_path: Path) -> None:
    assert main(words(tiny, tmp_path / "out", "tiny-range", "--labels", "25", "--holdout", "0")) == 0
    config = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert config["provenance"]["training_frames"] == [2]  # the first and the fifth of six
    assert config["provenance"]["labels_percent"] == 25


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--labels", "50"], "--labels"),
        (["--frozen-encoder"], "--frozen-encoder needs a pretrained encoder; give --init"),
        (["--augmentation.scale", "1.2", "0.9"], "expected the smaller value first"),
        (["--augmentation.point-drop", "1"], "--augmentation.point-drop 1.0: expected at least 0 and below 1"),
        (["--mixture", "1", "--mixture", "2"], "--mixture has 2 values for 1 data sets"),
        (["--holdout", "0.99"], "single scene|cannot be split|use --holdout 0"),
        (["--init", "imagenet"], "has no pretrained weights to download"),
        (
            ["--model", "supervised-resnet18w48-synthetic.fpn-synthetic"],
            "is for segmentation2d, not for labelling points",
        ),
    ],
)
def test_wrong_settings(tiny: Path, tmp_path: Path, more: list[str], message: str, capsys: Any) -> None:
    assert main(words(tiny, tmp_path / "out", "tiny-range", *more)) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "out").exists()


def test_wrong_data(tiny: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    short = tiny / "labels" / "02.label"
    content = short.read_bytes()
    short.write_bytes(content[:-4])
    assert main(words(tiny, out, "tiny-range")) == 2
    assert "02" in capsys.readouterr().err
    short.write_bytes(np.full(1500, 77, "<u4").tobytes())
    assert main(words(tiny, out, "tiny-range")) == 2
    assert "77" in capsys.readouterr().err
    short.write_bytes(content)
    points = np.fromfile(tiny / "points" / "03.bin", "<f4")
    points[5] = np.inf
    points.tofile(tiny / "points" / "03.bin")
    assert main(words(tiny, out, "tiny-range", "--holdout", "0")) == 2
    assert "inf" in capsys.readouterr().err
    assert not out.exists()


def test_frames_without_sweeps_are_refused() -> None:
    stream = SweepStream(
        [Source([Frame(id="f7")], np.zeros(256, "u1"))], total=1, input=PointsInput(), augmentation=STILL, seed=0
    )
    with pytest.raises(InputError, match=r"frame f7 has 0 lidars \(none\); training needs sweeps of one"):
        stream[0]
    with pytest.raises(InputError, match="has no sweeps; check the split"):
        SweepStream([Source([], None)], total=1, input=PointsInput(), augmentation=STILL, seed=0)
