"""Metrics of sweeps by hand: IoU by class and distance, absent classes, clusters, panoptic quality, a whole run."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from test_lidar_segmentation import segmenter_folder

from zoo.classes import SEMANTICKITTI, ClassTable
from zoo.cli import main
from zoo.data.terms import mark_synthetic
from zoo.errors import InputError
from zoo.evaluate.metrics.panoptic import count_segments, panoptic_quality
from zoo.evaluate.metrics.segmentation3d import Segmentation3DMetric
from zoo.folder.card import render_card
from zoo.folder.model_folder import ModelFolder
from zoo.frame import Frame, Sweep
from zoo.geometry.clusters import clusters
from zoo.prediction import Segmentation3D
from zoo.tasks.segmentation3d import Segmentation3DTask

OWN = ClassTable("own", ("ground", "car", "tree"), ((10, 20, 30), (200, 0, 0), (0, 200, 0)))
# Range in metres, truth (255: none), prediction.
POINTS = (
    (5, 0, 0), (6, 0, 0), (9.9, 0, 1), (5, 255, 1),      # 0-10 m: ground 2 of 3, car never in the truth
    (10, 1, 1), (19, 1, 0),                              # 10-20 m: car 1 of 2, ground predicted once
    (35, 0, 0),                                          # 30-50 m
    (50, 1, 1), (80, 0, 0),                              # 50 m and more
)  # fmt: skip


def frame_of(xy: np.ndarray, truth: np.ndarray, instances: np.ndarray | None = None) -> Frame:
    points = np.column_stack([xy, np.zeros((len(xy), 2))]).astype(np.float32)
    sweep = Sweep(points_source=points, labels_source=truth.astype(np.uint8), instances_source=instances)
    return Frame(id="f", lidars={"top": (sweep,)})


def prediction_of(frame: Frame, labels: np.ndarray, classes: ClassTable = OWN) -> Segmentation3D:
    points = frame.lidars["top"][0].points
    return Segmentation3D(labels.astype(np.uint8), np.full(len(labels), 0.75, np.float32), classes, points)


def by_hand() -> tuple[Frame, Segmentation3D]:
    ranges, truth, predicted = np.array(POINTS).T
    angle = np.linspace(0, 6, len(ranges))
    frame = frame_of(np.column_stack([ranges * np.cos(angle), ranges * np.sin(angle)]), truth)
    return frame, prediction_of(frame, predicted)


def test_figures_worked_out_by_hand() -> None:
    """Ground: truth 5, predicted 5, hits 4, so 4/6. Car: truth 3, predicted 3, hits 2, so 2/4. Tree is absent."""
    frame, prediction = by_hand()
    for rule, tree in (("skip", None), ("zero", 0.0)):
        metric = Segmentation3DMetric(Segmentation3DTask(OWN), OWN, absent_classes=rule)
        tally = metric.tally(frame, prediction)
        again = metric.decode(json.loads(json.dumps(metric.encode(tally))))
        for each in ([tally], [again]):
            found = {key: figure.value for key, figure in metric.figures(each).items()}
            iou = [4 / 6, 2 / 4] if tree is None else [4 / 6, 2 / 4, tree]
            assert found["miou"] == pytest.approx(np.mean(iou))
            assert found["miou_occurring"] == pytest.approx((4 / 6 + 2 / 4) / 2)
            assert found["point_accuracy"] == pytest.approx(6 / 8)
            assert found["ece"] == pytest.approx(abs(6 - 8 * 0.75) / 8, abs=1e-6)
            assert found["miou_at/0-10 m"] == pytest.approx((2 / 3 + 0) / 2)
            assert found["miou_at/10-20 m"] == pytest.approx((0 + 1 / 2) / 2)
            assert np.isnan(found["miou_at/20-30 m"])
            assert found["miou_at/30-50 m"] == 1
            assert found["miou_at/50 m and more"] == 1
            assert "pq" not in found
        details = metric.details([tally])
        assert (details["elements"], details["counted"]) == ("points", 8)
        assert details["truth"] == {"ground": 5, "car": 3, "tree": 0}


def test_weights_are_those_of_the_frames() -> None:
    """Doubling a frame by its weight gives the figures of the frame given twice."""
    frame, prediction = by_hand()
    metric = Segmentation3DMetric(Segmentation3DTask(OWN), OWN)
    one = metric.tally(frame, prediction)
    other = metric.tally(frame, dataclasses.replace(prediction, labels=np.zeros_like(prediction.labels)))
    weighted = metric.figures([one, other], np.array([[2.0, 1.0], [0, 0]]))
    direct = metric.figures([one, one, other])
    for key in ("miou", "miou_occurring", "miou_at/10-20 m", "point_accuracy"):
        replicates = weighted[key].replicates
        assert replicates is not None
        assert replicates[0] == pytest.approx(direct[key].value)
        assert np.isnan(replicates[1])


def test_points_that_do_not_match_their_labels() -> None:
    _, prediction = by_hand()
    metric = Segmentation3DMetric(Segmentation3DTask(OWN), OWN)
    short = frame_of(np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(InputError, match="frame f: prediction has shape"):
        metric.tally(short, prediction)
    assert not metric.has_truth(Frame(id="g"))  # A2D2 has images without a sweep
    two = frame_of(np.zeros((3, 2)), np.zeros(3)).lidars
    with pytest.raises(InputError, match=r"has 2 lidars \(one, other\)"):
        metric.has_truth(Frame(id="h", lidars={name: next(iter(two.values())) for name in ("one", "other")}))


def test_clusters_by_hand() -> None:
    """Cells of half a metre that share a corner are joined; a chain joins its ends."""
    chain = np.column_stack([np.arange(40) * 0.5 + 0.25, np.arange(40) * 0.5 + 0.25])
    apart = np.array([[-3.0, -3.0], [-3.1, -3.0], [0.25, 1.8]])
    found = clusters(np.concatenate([apart, chain[::-1]]))
    assert len(set(found[3:].tolist())) == 1
    assert found[0] == found[1] != found[3]
    assert len(set(found.tolist())) == 3
    assert clusters(np.zeros((0, 2))).shape == (0,)


def test_clusters_are_those_of_a_search_through_all_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        xy = rng.uniform(-6, 6, (120, 2))
        cells = np.floor(xy / 0.5)
        touching = np.abs(cells[:, None] - cells).max(-1) <= 1
        for _ in range(7):  # closure by squaring: chains of up to 128 links
            touching = (touching.astype(int) @ touching.astype(int)) > 0
        found = clusters(xy)
        np.testing.assert_array_equal(found[:, None] == found, touching)


def slow_panoptic(truth, truth_ids, predicted, predicted_ids, classes, least):
    """The definition, segment by segment, with sets of points."""
    table = np.zeros((classes, 4))
    keep = [i for i in range(len(truth)) if truth[i] < classes]

    def segments(labels, ids, label):
        found: dict[int, set[int]] = {}
        for i in keep:
            if labels[i] == label:
                found.setdefault(int(ids[i]), set()).add(i)
        return list(found.values())

    for label in range(classes):
        theirs, ours = segments(truth, truth_ids, label), segments(predicted, predicted_ids, label)
        matched_theirs, matched_ours = set(), set()
        for a, one in enumerate(theirs):
            for b, other in enumerate(ours):
                iou = len(one & other) / len(one | other)
                if iou > 0.5:
                    table[label, 0] += iou
                    table[label, 1] += 1
                    matched_theirs.add(a)
                    matched_ours.add(b)
        table[label, 2] = sum(len(s) >= least for b, s in enumerate(ours) if b not in matched_ours)
        table[label, 3] = sum(len(s) >= least for a, s in enumerate(theirs) if a not in matched_theirs)
    return table


def test_panoptic_quality_by_definition() -> None:
    rng = np.random.default_rng(1)
    for least in (1, 4):
        for _ in range(30):
            truth = rng.choice([0, 1, 2, 255], 200)
            truth_ids = np.where(truth == 1, rng.integers(1, 4, 200), 0)
            predicted = np.where(rng.random(200) < 0.8, truth, rng.choice([0, 1, 2, 255], 200))
            predicted_ids = np.where(rng.random(200) < 0.9, truth_ids, rng.integers(0, 4, 200))
            found = count_segments(truth, truth_ids, predicted, predicted_ids, 3, least)
            np.testing.assert_allclose(found, slow_panoptic(truth, truth_ids, predicted, predicted_ids, 3, least))
    quality = panoptic_quality(np.array([[1.6, 2, 1, 1], [0, 0, 0, 0], [0, 0, 3, 0]]))
    np.testing.assert_allclose(quality, [1.6 / 3, np.nan, 0])
    assert panoptic_quality(np.zeros((1, 4)), "zero").tolist() == [0]


def test_panoptic_quality_of_clusters() -> None:
    """Two cars 10 m apart are found; two that touch are found as one, so the larger matches and the other is missed."""
    car, road = SEMANTICKITTI.names.index("car"), SEMANTICKITTI.names.index("road")
    near = np.random.default_rng(0).uniform(0, 2, (100, 2))
    task = Segmentation3DTask(SEMANTICKITTI)
    metric = Segmentation3DMetric(task, SEMANTICKITTI, instances=True)
    ground = np.column_stack([np.linspace(-30, -20, 60), np.zeros(60)])
    for offset, expected in ((10.0, 1.0), (2.2, 0.0)):
        xy = np.concatenate([near, near[:60] + [offset, 0], ground])
        truth = np.r_[np.full(160, car), np.full(60, road)]
        instances = np.r_[np.full(100, 7), np.full(60, 9), np.zeros(60)].astype(np.int32)
        frame = frame_of(xy, truth, instances)
        figures = metric.figures([metric.tally(frame, prediction_of(frame, truth, SEMANTICKITTI))])
        assert figures["pq/road"].value == 1
        if expected:
            assert figures["pq/car"].value == 1
        else:  # IoU 100 / 160 with the larger, and the smaller is missed: 0.625 / (1 + 0.5)
            assert figures["pq/car"].value == pytest.approx(0.625 / 1.5)


def write_sequence(root: Path, sweeps: int = 3, number: int = 8) -> Path:
    """A SemanticKITTI folder with random points of class car and road; returns the folder of the sequence."""
    rng = np.random.default_rng(number)
    sequence = root / "sequences" / f"{number:02d}"
    for name in ("velodyne", "labels"):
        (sequence / name).mkdir(parents=True)
    for i in range(sweeps):
        points = np.column_stack([rng.normal(size=(300, 3)) * (10, 10, 1), rng.random(300)]).astype("<f4")
        points.tofile(sequence / "velodyne" / f"{i:06d}.bin")
        labels = rng.choice([0, 10, 40], 300).astype("<u4") + (rng.integers(0, 3, 300).astype("<u4") << 16)
        labels.tofile(sequence / "labels" / f"{i:06d}.label")
    return sequence


def test_evaluation_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures of the command against counts taken here from the files and the labels that zoo predict writes."""
    table = dataclasses.replace(SEMANTICKITTI)
    folder = segmenter_folder(tmp_path / "model", classes=table)
    write_sequence(tmp_path / "data")
    out = tmp_path / "out"
    assert main(["evaluate", str(folder), "--data", f"semantickitti={tmp_path / 'data'}", "--out", str(out)]) == 0
    assert "PQ, clustered" in capsys.readouterr().out
    (model,) = json.loads((out / "metrics.json").read_text())["models"]
    figures = model["results"]["semantickitti"]["groups"]["clear"]
    matrix = np.zeros((19, 19))
    sequence = tmp_path / "data" / "sequences" / "08"
    for scan in sorted((sequence / "velodyne").iterdir()):
        assert main(["predict", str(folder), str(scan), "--out", str(tmp_path / "p")]) == 0
        found = np.fromfile(tmp_path / "p" / f"{scan.stem}.label", "<u4")
        truth = np.fromfile(sequence / "labels" / f"{scan.stem}.label", "<u4") & 0xFFFF
        official = [10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]  # of the 19 classes
        for raw, label in ((10, 0), (40, 8)):
            np.add.at(matrix[label], np.searchsorted(official, found[truth == raw]), 1)
    hits = np.diag(matrix)
    iou = hits / np.maximum(matrix.sum(0) + matrix.sum(1) - hits, 1e-15)
    assert figures["miou"]["value"] == pytest.approx(iou.mean())
    assert figures["miou_occurring"]["value"] == pytest.approx(iou[[0, 8]].mean())
    assert figures["counted"] == matrix.sum()
    report = (out / "report.html").read_text()
    assert "ground truth points" in report
    assert "data:image/jpeg" in report


def test_a_rendered_folder_is_evaluated_per_condition_and_distance(tmp_path: Path) -> None:
    """Two places, one of them in fog: figures of each, by distance, in metrics.json, report and card.

    The IoU of car and road at 10 to 20 m in fog is counted here, from the files and the labels of zoo predict.
    """
    folder = segmenter_folder(tmp_path / "model", classes=dataclasses.replace(SEMANTICKITTI))
    data, out = tmp_path / "data", tmp_path / "out"
    write_sequence(data, 2)
    foggy = write_sequence(data, 1, number=22)
    (data / "semantic-kitti.yaml").write_text("split: {train: [], valid: [8, 22], test: []}\n")
    mark_synthetic(data, "semantickitti", frames=3, seed=0, conditions=["clear", "fog"], severity=3)
    words = ["evaluate", str(folder), "--data", f"semantickitti={data}", "--out", str(out), "--record"]
    assert main(words) == 0
    (model,) = json.loads((out / "metrics.json").read_text())["models"]
    groups = model["results"]["semantickitti"]["groups"]
    assert {name: groups[name]["frames"] for name in ("clear", "fog", "all")} == {"clear": 2, "fog": 1, "all": 3}
    assert groups["fog"]["rpd"]["source"] == "semantickitti:clear"

    assert main(["predict", str(folder), str(foggy / "velodyne" / "000000.bin"), "--out", str(tmp_path / "p")]) == 0
    points = np.fromfile(foggy / "velodyne" / "000000.bin", "<f4").reshape(-1, 4)
    found = np.fromfile(tmp_path / "p" / "000000.label", "<u4")
    raw = np.fromfile(foggy / "labels" / "000000.label", "<u4") & 0xFFFF
    distance = np.hypot(points[:, 0], points[:, 1])
    chosen = (distance >= 10) & (distance < 20) & (raw > 0)
    truth = np.where(raw == 10, 10, 40)  # ids of car and road
    ious = []
    for label in set(truth[chosen]) | set(found[chosen]):
        one, other = truth[chosen] == label, found[chosen] == label
        ious.append((one & other).sum() / (one | other).sum())
    assert groups["fog"]["miou_at"]["10-20 m"]["value"] == pytest.approx(np.mean(ious))

    shown = f"{100 * np.mean(ious):.1f}"
    report = (out / "report.html").read_text()
    table = report[report.index("mIoU by distance") : report.index("Calibration")]
    cells = re.findall(r">([^<]*)</td>", table[table.index("10-20 m") : table.index("20-30 m")])
    assert cells[["clear", "fog", "all"].index("fog")] == shown
    assert report.count("<figcaption>errors</figcaption>") == 3  # two frames of clear, one of fog
    assert "ring every 10 m" in report
    assert "counts of points" in report
    assert "pixel counts" not in report
    card = render_card(ModelFolder.open(folder).config, ModelFolder.open(folder).metrics())
    row = next(
        line
        for line in card.splitlines()
        if line.startswith("| synthetic-semantickitti | val | fog |") and "IoU" not in line and line.count("|") == 9
    )
    assert row.split("|")[5].strip() == shown
