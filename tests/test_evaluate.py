"""The evaluation from folders to metrics.json: hand-worked figures, resuming, several processes, the command."""

import dataclasses
import io
import json
import os
import re
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from tolerances import assert_close

import zoo
from zoo.classes import CAMVID, CITYSCAPES, ClassTable
from zoo.cli import main
from zoo.data import Dataset, open_dataset
from zoo.errors import InputError
from zoo.evaluate.core import evaluate, read_ahead
from zoo.evaluate.metrics import METRICS, Column, Figure, metric_for
from zoo.evaluate.pictures import jpeg_uri
from zoo.evaluate.store import FrameStore
from zoo.evaluate.submission import SERVERS
from zoo.evaluate.suite import Session
from zoo.frame import CameraFrame, Frame
from zoo.prediction import Features, Segmentation2D
from zoo.tasks.features import FeaturesTask
from zoo.tasks.segmentation2d import Segmentation2DTask

CAMVID_REAL = Path(__file__).parents[2] / "shared" / "real" / "camvid"
INTERVALS = ("miou", "pixel_accuracy", "mean_class_accuracy", "ece")
A = np.array


def save(path: Path, array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path)


class Folder:
    """A stand-in for a model folder that keeps what is recorded."""

    # Trained on the drive of the fog frame.
    config: ClassVar = {"provenance": {"trained_on": [{"name": "ACDC", "scenes": {"fog/GOPR0475": []}}]}}

    def __init__(self, path="nowhere"):
        self.path = Path(path)

    def refuse_installed(self, action):
        if self.path == Path("installed"):
            raise InputError(f"cannot {action} installed")

    def metrics(self):
        return []


class Fake:
    """Predicts what a function makes of each frame, and counts its calls."""

    def __init__(self, predict, classes=CITYSCAPES, name="fake", sha256="0" * 64, stop_after=None):
        self.predict, self.classes, self.name, self.stop_after = predict, classes, name, stop_after
        self.task = Segmentation2DTask(classes)
        self.artefact = {"file": "model.safetensors", "sha256": sha256, "engine": "fake", "precision": "fp32"}
        self.settings = {"inference": "whole"}
        self.folder = Folder()
        self.calls = []
        self.rows = None

    def __call__(self, frame):
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append(frame.id)
        labels, scores = self.predict(frame)
        return Segmentation2D(labels=labels, scores=scores, classes=self.classes, image=frame.camera.image)

    def record(self, rows, key):
        self.rows = rows
        assert len({json.dumps([row[name] for name in key]) for row in rows}) == len(rows)


def noisy(noise):
    """The truth with seeded errors: the same for a frame wherever and whenever it is predicted."""

    def predict(frame):
        rng = np.random.default_rng(list(frame.id.encode()))
        labels = np.where(frame.camera.labels == 255, 0, frame.camera.labels)
        wrong = rng.random(labels.shape) < noise
        scores = rng.uniform(0.3, 1, labels.shape).astype(np.float32)
        return np.where(wrong, rng.integers(0, 11, labels.shape), labels).astype(np.uint8), scores

    return predict


# The hand-made ACDC folder. Road 0, car 13, sky 10, pole 5; x marks the invalid pixels.
#
# fog        truth       predicted     night      truth        predicted    reference  truth       predicted
#            0 0 0x 13   0 0 13 13                0  0  0   0  0  0 0 13               0 0 10 10   0 0 0  10
#            0 255 10 10x  0 5 10 0                13 13 255 255  13 13 0 0             0 0 13 13   0 0 13 13
FRAMES = {
    "fog": ([[0, 0, 0, 13], [0, 255, 10, 10]], [[0, 0, 13, 13], [0, 5, 10, 0]]),
    "night": ([[0, 0, 0, 0], [13, 13, 255, 255]], [[0, 0, 0, 13], [13, 13, 0, 0]]),
    "reference": ([[0, 0, 10, 10], [0, 0, 13, 13]], [[0, 0, 0, 10], [0, 0, 13, 13]]),
}


@pytest.fixture
def acdc(tmp_path):
    root = tmp_path / "acdc"
    image = np.full((2, 4, 3), 100, np.uint8)
    fog, night = "GOPR0475_frame_000148", "GOPR0356_frame_000321"
    save(root / f"rgb_anon/fog/val/GOPR0475/{fog}_rgb_anon.png", image)
    save(root / f"rgb_anon/fog/val_ref/GOPR0475/{fog}_rgb_ref_anon.png", image)
    save(root / f"rgb_anon/night/val/GOPR0356/{night}_rgb_anon.png", image)
    save(root / f"gt/fog/val/GOPR0475/{fog}_gt_labelTrainIds.png", A(FRAMES["fog"][0], np.uint8))
    save(root / f"gt/fog/val/GOPR0475/{fog}_gt_invIds.png", A([[0, 0, 1, 0], [0, 0, 0, 1]], np.uint8))
    save(root / f"gt/fog/val_ref/GOPR0475/{fog}_gt_ref_labelTrainIds.png", A(FRAMES["reference"][0], np.uint8))
    save(root / f"gt/night/val/GOPR0356/{night}_gt_labelTrainIds.png", A(FRAMES["night"][0], np.uint8))
    return root


def by_hand(frame):
    truth, predicted = (A(array, np.uint8) for array in FRAMES[frame.group])
    return predicted, np.where(truth == predicted, 0.9, 0.55).astype(np.float32)


def test_hand_made_acdc_gives_the_figures_worked_out_here(acdc, tmp_path):
    session = Session({"fake": Fake(by_hand)}, [open_dataset("acdc", acdc)], tmp_path / "out")
    groups = session.run()["models"][0]["results"]["acdc"]["groups"]
    assert list(groups) == ["fog", "night", "reference", "all"]

    # fog: 7 pixels count. road: truth 4, predicted 4, hits 3 -> 3/5. car: 1, 2, 1 -> 1/2. sky: 2, 1, 1 -> 1/2.
    # Pole is predicted on an ignored pixel only, so it is absent like the other 16: no IoU, not in the mean.
    fog = groups["fog"]
    iou = {name: figure["value"] for name, figure in fog["iou"].items() if figure["value"] is not None}
    assert iou == {"road": 3 / 5, "sky": 1 / 2, "car": 1 / 2}
    assert fog["miou"]["value"] == pytest.approx((3 / 5 + 1 / 2 + 1 / 2) / 3)
    assert fog["counted"] == 7
    assert fog["pixel_accuracy"]["value"] == pytest.approx(5 / 7)
    assert fog["mean_class_accuracy"]["value"] == pytest.approx((3 / 4 + 1 + 1 / 2) / 3)
    # 5 right pixels at confidence 0.9, 2 wrong ones at 0.55: (|5 - 4.5| + |0 - 1.1|) / 7
    assert_close(fog["ece"]["value"], 1.6 / 7, dtype="float32")
    # An invalid pixel counts with its label in the figures above, as in ACDC's standard metric. Without the two of them
    # road is 3/3, car 1/1 and sky 1/1.
    assert fog["miou_valid_pixels"]["value"] == 1.0

    # night: road: truth 4, predicted 3, hits 3 -> 3/4. car: 2, 3, 2 -> 2/3. No sky.
    assert groups["night"]["miou"]["value"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    # reference: road 4, 5, 4 -> 4/5. sky 2, 1, 1 -> 1/2. car 2/2.
    assert groups["reference"]["miou"]["value"] == pytest.approx((4 / 5 + 1 / 2 + 1) / 3)
    # all: the adverse frames, counts added up: road 8, 7, 6 -> 6/9. car 3, 5, 3 -> 3/5. sky 1/2.
    assert groups["all"]["frames"] == 2
    assert groups["all"]["miou"]["value"] == pytest.approx((2 / 3 + 3 / 5 + 1 / 2) / 3)

    # rPD = mIoU on the target / mIoU on the reference frames (23/30)
    expected = {"fog": 16 / 30, "night": 17 / 24, "all": 53 / 90}
    for name, value in expected.items():
        assert groups[name]["rpd"]["value"] == pytest.approx(value / (23 / 30))
        assert groups[name]["rpd"]["source"] == "acdc:reference"
    assert "rpd" not in groups["reference"]
    # one image has no interval, nor have two drives of one frame each
    assert all(groups[group][name]["interval"] is None for group in ("fog", "all") for name in INTERVALS)
    assert groups["all"]["sampling"]["words"] == "no intervals: 2 frames of 2 drives are too few"
    assert groups["all"]["pools"] == ["fog", "night"]


def make_cityscapes(root, count=6, split="val"):
    rng = np.random.default_rng(0)
    ids = A([7, 8, 11, 21, 23, 26, 0])
    for number in range(count):
        name = f"ulm_{number // 2:06d}_{number:06d}"
        labels = ids[np.kron(rng.integers(0, 7, (4, 5)), np.ones((8, 8), int))]
        save(root / f"leftImg8bit/{split}/ulm/{name}_leftImg8bit.png", rng.integers(0, 255, (32, 40, 3), np.uint8))
        save(root / f"gtFine/{split}/ulm/{name}_gtFine_labelIds.png", labels.astype(np.uint8))
        instances = np.where(labels == 26, 26000 + np.arange(40) // 16, labels)
        save(root / f"gtFine/{split}/ulm/{name}_gtFine_instanceIds.png", instances.astype(np.uint16))
    return root


@pytest.fixture
def cityscapes(tmp_path):
    return make_cityscapes(tmp_path / "cityscapes")


def figures(metrics):
    """All of metrics.json that must not depend on when, where and in how many parts it was made."""
    return {key: metrics[key] for key in ("data", "models", "comparison")}


def test_cityscapes_is_the_source_for_acdc_where_both_are_evaluated(acdc, cityscapes, tmp_path):
    def predict(frame):
        return by_hand(frame) if frame.group in FRAMES else noisy(0.2)(frame)

    datasets = [open_dataset("acdc", acdc), open_dataset("cityscapes", cityscapes)]
    metrics = Session({"fake": Fake(predict)}, datasets, tmp_path / "out").run()
    results = metrics["models"][0]["results"]
    source = results["cityscapes"]["groups"]["all"]
    assert "rpd" not in source
    assert source["iiou"]["value"] is not None
    for name in ("fog", "night", "reference", "all"):
        figure = results["acdc"]["groups"][name]
        assert figure["rpd"]["source"] == "cityscapes:all"
        assert figure["rpd"]["value"] == pytest.approx(figure["miou"]["value"] / source["miou"]["value"])
        assert "iiou" not in figure


@pytest.mark.parametrize(
    ("named", "source"), [("acdc:night", "acdc:night"), ("night", "acdc:night"), ("cityscapes", "cityscapes:all")]
)
def test_a_source_can_be_named(acdc, cityscapes, tmp_path, named, source):
    datasets = [open_dataset("acdc", acdc), open_dataset("cityscapes", cityscapes)]
    session = Session({"fake": Fake(noisy(0.1))}, datasets, tmp_path / "out", source=named)
    groups = session.run()["models"][0]["results"]["acdc"]["groups"]
    assert groups["fog"]["rpd"]["source"] == source
    assert ("rpd" in groups["night"]) == (source != "acdc:night")
    assert ("rpd" in groups["all"]) == (source != "acdc:night")  # night is part of all


def test_the_shifted_row_pools_all_but_the_source(tmp_path):
    def frame(group, predicted):
        camera = CameraFrame(image_source=np.zeros((1, 4, 3), np.uint8), labels_source=A([[0, 0, 1, 1]], np.uint8))
        return Frame(id=group, group=group, cameras={"front": camera}, meta={"predicted": predicted})

    frames = (frame("clear", [0, 0, 1, 1]), frame("fog", [0, 1, 1, 1]), frame("night", [0, 1, 1, 0]))
    dataset = Dataset(kind="synthetic", root=None, split="val", classes=CITYSCAPES, frames=frames, source_group="clear")
    fake = Fake(lambda frame: (A([frame.meta["predicted"]], np.uint8), np.ones((1, 4), np.float32)))
    groups = Session({"fake": fake}, [dataset], tmp_path).run()["models"][0]["results"]["synthetic"]["groups"]
    assert list(groups) == ["clear", "fog", "night", "all", "shifted"]
    # fog and night: road: truth 4, predicted 3, hits 2 -> 2/5; sidewalk: truth 4, predicted 5, hits 3 -> 3/6
    assert groups["shifted"]["frames"] == 2
    assert groups["shifted"]["miou"]["value"] == pytest.approx((2 / 5 + 3 / 6) / 2)
    assert groups["shifted"]["rpd"]["value"] == pytest.approx(0.45)  # the clear frame is all right
    assert "rpd" not in groups["all"]  # it holds the source


@pytest.mark.parametrize("named", ["snow", "acdc:snow", "camvid"])
def test_an_unknown_source_is_refused(acdc, tmp_path, named):
    with pytest.raises(InputError, match=r"--source .*snow|--source 'camvid' is neither"):
        Session({"fake": Fake(by_hand)}, [open_dataset("acdc", acdc)], tmp_path / "out", source=named)


def test_figures_do_not_depend_on_the_number_of_readers(cityscapes, tmp_path):
    made = [
        Session({"fake": Fake(noisy(0.1))}, [open_dataset("cityscapes", cityscapes)], tmp_path / str(readers)).run(
            readers=readers
        )
        for readers in (1, 4)
    ]
    assert figures(made[0]) == figures(made[1])


def test_an_interrupted_run_continues_and_gives_the_same(cityscapes, tmp_path):
    datasets = [open_dataset("cityscapes", cityscapes)]
    whole = Session({"fake": Fake(noisy(0.1))}, datasets, tmp_path / "whole").run()
    out = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        Session({"fake": Fake(noisy(0.1), stop_after=4)}, datasets, out).run()
    (records,) = (out / "frames").glob("*.jsonl")
    kept = len(records.read_text().splitlines())
    assert 1 <= kept <= 4
    with open(records, "a") as handle:  # a process killed while writing leaves half a line
        handle.write('{"frame": "ulm_000002_000005", "classes": 19, "matr')
    second, said = Fake(noisy(0.1)), []
    resumed = Session({"fake": second}, datasets, out).run(say=said.append)
    assert len(second.calls) == 6 - kept
    assert said == [f"fake on cityscapes: {kept} of 6 frames already done"]
    assert figures(resumed) == figures(whole)
    third = Fake(noisy(0.1))
    assert figures(Session({"fake": third}, datasets, out).run(fresh=True)) == figures(whole)
    assert len(third.calls) == 6


def test_another_model_file_starts_afresh_and_says_so(cityscapes, tmp_path):
    datasets, out, said = [open_dataset("cityscapes", cityscapes)], tmp_path / "out", []
    Session({"fake": Fake(noisy(0.1))}, datasets, out).run()
    other = Fake(noisy(0.5), sha256="1" * 64)
    Session({"fake": other}, datasets, out).run(say=said.append)
    assert len(other.calls) == 6
    assert len(said) == 1
    assert "belongs to a different model file, data or settings; starting from scratch" in said[0]


def test_a_damaged_record_is_named(cityscapes, tmp_path):
    datasets, out = [open_dataset("cityscapes", cityscapes)], tmp_path / "out"
    Session({"fake": Fake(noisy(0.1))}, datasets, out).run()
    (records,) = (out / "frames").glob("*.jsonl")
    lines = records.read_text().splitlines()
    records.write_text("\n".join([lines[0], lines[1][:50], *lines[2:]]) + "\n")
    with pytest.raises(InputError, match=r"\.jsonl line 2 is damaged; start over with --fresh"):
        Session({"fake": Fake(noisy(0.1))}, datasets, out).run()


def test_a_full_disk_while_recording_is_a_one_line_error_and_can_be_resumed(cityscapes, tmp_path):
    datasets, out = [open_dataset("cityscapes", cityscapes)], tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write .*; free some space"):
            Session({"fake": Fake(noisy(0.1))}, datasets, out).run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resumed = Session({"fake": Fake(noisy(0.1))}, datasets, out).run()
    assert figures(resumed) == figures(Session({"fake": Fake(noisy(0.1))}, datasets, tmp_path / "new").run())


_PROCESS = """
import importlib.util, json, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))  # as pytest does
spec = importlib.util.spec_from_file_location("test_evaluate", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
dataset = tests.open_dataset("cityscapes", sys.argv[2])
metrics = tests.Session({"fake": tests.Fake(tests.noisy(0.1))}, [dataset], Path(sys.argv[3])).run(patience=60)
if metrics is not None:
    Path(sys.argv[3], "metrics.json").write_text(json.dumps(metrics))
"""


def start_process(cityscapes, out, rank, world):
    environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    command = [sys.executable, "-c", _PROCESS, __file__, str(cityscapes), str(out)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_two_processes_give_bit_for_bit_the_same(cityscapes, tmp_path):
    whole = Session({"fake": Fake(noisy(0.1))}, [open_dataset("cityscapes", cityscapes)], tmp_path / "one").run()
    out = tmp_path / "two"
    started = [start_process(cityscapes, out, rank, 2) for rank in (0, 1)]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    lines = [len(path.read_text().splitlines()) for path in sorted((out / "frames").glob("*.jsonl"))]
    assert lines == [3, 3]
    together = json.loads((out / "metrics.json").read_text())
    assert together["environment"]["processes"] == 2
    assert figures(together) == json.loads(json.dumps(figures(whole)))


@pytest.mark.slow
def test_torchrun_gives_bit_for_bit_the_same(cityscapes, tmp_path):
    pytest.importorskip("torch")
    whole = Session({"fake": Fake(noisy(0.1))}, [open_dataset("cityscapes", cityscapes)], tmp_path / "one").run()
    script, out = tmp_path / "process.py", tmp_path / "two"
    script.write_text(_PROCESS)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    subprocess.run([sys.executable, *launcher, __file__, str(cityscapes), str(out)], check=True, timeout=300)
    together = json.loads((out / "metrics.json").read_text())
    assert figures(together) == json.loads(json.dumps(figures(whole)))


def test_one_process_finishes_what_two_began(cityscapes, tmp_path, monkeypatch):
    out, dataset = tmp_path / "out", open_dataset("cityscapes", cityscapes)
    with monkeypatch.context() as patched:
        patched.setenv("RANK", "1")
        patched.setenv("WORLD_SIZE", "2")
        assert Session({"fake": Fake(noisy(0.1))}, [dataset], out).run() is None
    single = Fake(noisy(0.1))
    Session({"fake": single}, [dataset], out).run()
    assert single.calls == [frame.id for frame in dataset.frames[0::2]]


def test_frames_that_never_arrive_are_an_error(tmp_path):
    store = FrameStore(tmp_path, "name", {}, metric_for("segmentation2d", Segmentation2DTask(CITYSCAPES), CITYSCAPES))
    with pytest.raises(InputError, match=r"1 frames of the other processes are still missing after 0 s"):
        store.wait_for(["a"], patience=0.3)


def test_paired_differences(tmp_path):
    cityscapes = make_cityscapes(tmp_path / "cityscapes", 12)
    models = {"good": Fake(noisy(0.1), name="good"), "bad": Fake(noisy(0.3), name="bad", sha256="1" * 64)}
    metrics = Session(models, [open_dataset("cityscapes", cityscapes)], tmp_path / "out").run()
    values = [model["results"]["cityscapes"]["groups"]["all"]["miou"] for model in metrics["models"]]
    (row,) = [row for row in metrics["comparison"] if row["group"] == "all"]
    assert (row["model"], row["baseline"]) == ("bad", "good")
    assert row["miou"]["value"] == pytest.approx(values[1]["value"] - values[0]["value"])
    low, high = row["miou"]["interval"]
    assert low < row["miou"]["value"] < high < 0
    same = {"one": Fake(noisy(0.1)), "other": Fake(noisy(0.1), sha256="1" * 64)}
    metrics = Session(same, [open_dataset("cityscapes", cityscapes)], tmp_path / "same").run()
    # equal models differ by nothing whichever image is left out, however wide their own intervals are
    assert metrics["comparison"][0]["miou"] == {"value": 0.0, "interval": [0.0, 0.0], "units": 12.0}


def test_predictions_in_other_classes_are_mapped(tmp_path):
    truth = A([[0, 0, 1, 1]], np.uint8)  # CamVid: sky, building
    save(tmp_path / "val/0016E5_1.png", np.zeros((1, 4, 3), np.uint8))
    save(tmp_path / "valannot/0016E5_1.png", truth)
    # Cityscapes: sky, sky, wall (part of CamVid's building), building
    predicted = A([[10, 10, 3, 2]], np.uint8)
    fake = Fake(lambda frame: (predicted, np.ones((1, 4), np.float32)))
    result = Session({"fake": fake}, [open_dataset("camvid", tmp_path)], tmp_path / "out").run()
    result = result["models"][0]["results"]["camvid"]
    assert result["class_map"] == "cityscapes to camvid"
    assert result["groups"]["day"]["pixel_accuracy"]["value"] == 1.0
    # CamVid's mean is the sum of 11 IoUs over 11, absent classes counting 0
    assert result["groups"]["day"]["miou"]["value"] == pytest.approx(2 / 11)


def test_classes_without_a_table_are_refused_before_anything_is_predicted(cityscapes, tmp_path):
    rooms = ClassTable("rooms", ("wall", "floor"), ((1, 1, 1), (2, 2, 2)))
    fake = Fake(noisy(0.1), classes=rooms)
    with pytest.raises(InputError, match="no table maps the classes rooms"):
        Session({"fake": fake}, [open_dataset("cityscapes", cityscapes)], tmp_path / "out")
    assert fake.calls == []


def test_wrong_predictions_and_frames_are_named(cityscapes):
    frame = open_dataset("cityscapes", cityscapes).frames[0]
    metric = metric_for("segmentation2d", Segmentation2DTask(CITYSCAPES), CITYSCAPES)
    for predicted, message in (
        (np.zeros((2, 2), np.uint8), r"frame ulm_000000_000000: prediction has shape \(2, 2\), expected \(32, 40\)"),
        (np.full((32, 40), 77, np.uint8), r"frame ulm_000000_000000: the prediction contains labels \[77\]"),
    ):
        fake = Fake(lambda frame, predicted=predicted: (predicted, np.ones(predicted.shape, np.float32)))
        with pytest.raises(InputError, match=message):
            list(evaluate([frame], fake, metric))
    save(cityscapes / "leftImg8bit/val/ulm/ulm_000000_000000_leftImg8bit.png", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(InputError, match="the image is 4 x 3 pixels, but its labels 40 x 32"):
        list(evaluate([frame], Fake(noisy(0.1)), metric))


class BrightnessTask(FeaturesTask):
    """A task without classes, whose metric is defined below."""

    name = "brightness"
    metric = "brightness"


class BrightnessMetric:
    """The mean grey of a frame over 255: a metric of another kind than the package has."""

    name, headline, scope, groups, rules = "brightness", "grey", "frame", (), ()
    columns = (Column("grey", "Grey", unit="", scale=255, digits=0, interval=True),)
    protocol = {"grey_levels": 256}  # noqa: RUF012

    def __init__(self, task, classes):
        pass

    def has_truth(self, frame):
        return True

    def tally(self, frame, prediction):
        return float(prediction.levels[0].mean()), frame.camera.image.shape[0]

    def encode(self, tally):
        return {"frame": tally[0], "rows": tally[1]}  # the name of a key in the file itself

    def decode(self, values):
        return values["frame"], values["rows"]

    def check(self, tallies):
        pass

    def figures(self, tallies, weights=None):
        grey = A([tally[0] for tally in tallies]) / 255
        return {"grey": Figure(grey.mean(), None if weights is None else weights @ grey / weights.sum(1))}

    def details(self, tallies):
        return {"rows": sum(tally[1] for tally in tallies)}

    def score(self, tally):
        return tally[0]

    def draw(self, frame, prediction):
        return {"grey image": jpeg_uri(np.repeat(frame.camera.image.mean(2, keepdims=True), 3, 2).astype(np.uint8))}


class Bright(Fake):
    """Predicts the image itself."""

    def __init__(self, **options):
        super().__init__(noisy(0), **options)
        self.task = BrightnessTask()

    def __call__(self, frame):
        self.calls.append(frame.id)
        return Features(levels=(frame.camera.image.astype(np.float32),))


def test_a_metric_of_another_kind_needs_nothing_but_its_row(tmp_path, load, capsys, monkeypatch):
    monkeypatch.setitem(METRICS, "brightness", f"{__name__}:BrightnessMetric")
    root = make_cityscapes(tmp_path / "cityscapes", 12)
    load["x"] = Bright()
    words = ["evaluate", "x", "--data", f"cityscapes={root}", "--out", str(tmp_path / "out"), "--record"]
    assert main(words) == 0
    grey = [np.asarray(Image.open(path)).mean() for path in sorted(root.glob("leftImg8bit/val/ulm/*.png"))]
    shown = capsys.readouterr().out
    assert "Grey" in shown
    assert "mIoU" not in shown
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    result = metrics["models"][0]["results"]["cityscapes"]["groups"]["all"]
    assert_close(result["grey"]["value"], np.mean(grey) / 255, dtype="float32")
    low, high = result["grey"]["interval"]
    assert low < result["grey"]["value"] < high
    assert result["rows"] == 12 * 32
    assert metrics["protocol"]["grey_levels"] == 256
    assert "ece_bins" not in metrics["protocol"]  # belongs to another metric
    (best,) = [example for example in result["examples"] if example["which"] == "best"]
    assert_close(best["grey"], max(grey), dtype="float32")
    (row,) = [row for row in load["x"].rows if row["group"] == "all"]
    assert (row["task"], row["headline"], row["columns"][0]["title"]) == ("brightness", "grey", "Grey")
    assert (row["grey"], row["grey_interval"]) == (result["grey"]["value"], result["grey"]["interval"])
    assert "miou" not in row
    page = (tmp_path / "out/report.html").read_text()
    assert "Grey per condition" in page
    assert page.count('alt="grey image"') == 3
    assert "IoU" not in re.sub(r"data:[^\"]*", "", page)
    assert main([*words, "--no-report"]) == 0  # the records are read back by the metric that wrote them
    assert len(load["x"].calls) == 12 + 3  # the report predicts its examples once more


class RecallMetric(BrightnessMetric):
    """Share of the frames whose nearest other frame shows the same place; frames are points on a line."""

    name, headline, scope = "brightness", "recall", "set"
    columns = (Column("recall", "Recall", interval=True),)
    # Nearest: 0-1, 1-0, 10-11, 11-10, 20-11 (9 apart, 31 is 11 apart), 31-20. The first four are of the same place.
    points = (0, 1, 10, 11, 20, 31)
    places = "aabbca"

    def tally(self, frame, prediction):
        number = int(frame.id.split("_")[-1])
        return self.points[number], self.places[number]

    def encode(self, tally):
        return {"point": tally[0], "place": tally[1]}

    def decode(self, values):
        return values["point"], values["place"]

    def figures(self, tallies, weights=None):
        assert weights is None  # the nearest frame is another one as soon as a frame is left out
        nearest = [min((abs(p - q), other) for q, other in tallies if q != p)[1] for p, _ in tallies]
        return {"recall": Figure(sum(a == b for a, (_, b) in zip(nearest, tallies)) / len(tallies))}

    def details(self, tallies):
        return {}

    def score(self, tally):
        raise AssertionError("a frame has no score of its own")


def test_a_metric_over_the_whole_set(tmp_path, load, capsys, monkeypatch):
    monkeypatch.setitem(METRICS, "brightness", f"{__name__}:RecallMetric")
    root = make_cityscapes(tmp_path / "cityscapes", 6)
    load["x"], load["y"] = Bright(), Bright(name="y", sha256="1" * 64)
    words = ["evaluate", "x", "y", "--data", f"cityscapes={root}", "--out", str(tmp_path / "out"), "--record"]
    assert main(words) == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    result = metrics["models"][0]["results"]["cityscapes"]["groups"]["all"]
    assert result["recall"] == {"value": pytest.approx(4 / 6), "interval": None, "units": None}
    assert result["examples"] == []
    assert metrics["comparison"][0]["recall"] == {"value": 0.0, "interval": None, "units": None}
    (row,) = [row for row in load["x"].rows if row["group"] == "all"]
    assert (row["recall"], row["recall_interval"]) == (pytest.approx(4 / 6), None)
    shown = capsys.readouterr().out
    assert "66.7" in shown
    assert "no intervals: the figures compare frames with each other" in shown
    assert main([*words, "--no-report"]) == 0  # from the stored records


def test_models_of_two_metrics_are_refused(cityscapes, tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "brightness", f"{__name__}:BrightnessMetric")
    models = {"a": Fake(noisy(0.1)), "b": Bright(name="b", sha256="1" * 64)}
    with pytest.raises(
        InputError, match=r"different metrics \(segmentation2d, brightness\); evaluate models with the same"
    ):
        Session(models, [open_dataset("cityscapes", cityscapes)], tmp_path / "out")


def test_a_bare_encoder_has_nothing_to_measure(cityscapes, tmp_path):
    encoder = Fake(noisy(0.1))
    encoder.task = FeaturesTask()
    with pytest.raises(InputError, match="no metric for models of the task features; choose a model with a head"):
        Session({"encoder": encoder}, [open_dataset("cityscapes", cityscapes)], tmp_path / "out")


def test_frames_are_read_ahead_but_not_all_at_once(cityscapes):
    asked = []

    def frames():
        for frame in open_dataset("cityscapes", cityscapes).frames:
            asked.append(frame.id)
            yield frame

    stream = read_ahead(frames(), readers=1)
    first = next(stream)
    assert isinstance(first.camera.image_source, np.ndarray)
    assert len(asked) == 3  # readers + 1 ahead of the one that was taken
    assert [first.id] + [frame.id for frame in stream] == asked


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def load(monkeypatch):
    """Makes `zoo.load` give fakes by name."""
    known = {}

    def fake_load(reference, **options):
        if reference not in known:
            raise InputError(f"unknown model {reference!r}")
        return known[reference]

    monkeypatch.setattr(zoo, "load", fake_load, raising=False)
    return known


def test_command_writes_metrics_report_and_rows(acdc, tmp_path, load, capsys):
    load["hand"], load["noisy"] = Fake(by_hand, name="hand"), Fake(noisy(0.3), name="noisy", sha256="1" * 64)
    out = tmp_path / "out"
    words = ["evaluate", "hand", "noisy", "--data", f"acdc={acdc}", "--out", str(out), "--record"]
    assert main(words) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["format"] == 1
    assert metrics["data"]["acdc"]["frames"] == {"fog": 1, "night": 1, "reference": 1}
    assert len(metrics["data"]["acdc"]["fingerprint"]) == 64
    assert metrics["models"][0]["artefact"]["sha256"] == "0" * 64
    assert {"python", "cpu", "packages"} <= set(metrics["environment"])
    shown = capsys.readouterr().out
    assert "53.3" in shown  # fog, 16/30
    rows = {row["group"]: row for row in load["hand"].rows}
    assert set(rows) == {"fog", "night", "reference", "all"}
    assert rows["fog"]["artefact_sha256"] == "0" * 64
    assert rows["fog"]["miou"] == pytest.approx(16 / 30)
    assert (rows["fog"]["data"], rows["fog"]["split"], rows["fog"]["source"]) == ("acdc", "val", "acdc:reference")
    assert [caveat["kind"] for caveat in rows["fog"]["caveats"]] == ["same_scene"]
    assert rows["night"]["caveats"] == []

    page = (out / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # self-contained
    assert "http" not in re.sub(r"data:[^\"]*", "", page)
    for text in ("53.3", "GOPR0475_frame_000148", "Compared with hand", "no class"):
        assert text in page
    pictures = re.findall(r'src="data:image/(?:jpeg|png);base64,([^"]+)" alt="(\w+)"', page)
    assert [alt for _, alt in pictures[:4]] == ["image", "truth", "prediction", "errors"]
    assert len(pictures) == 4 * 3 * 2  # one frame in each of three conditions, for two models


def make_sequences(root, count=12):
    """ACDC's fog with as many recordings of one frame each, and as many labelled references."""
    rng = np.random.default_rng(1)
    for number in range(count):
        name = f"GOPR{number:04d}_frame_000148"
        for part, infix in (("val", "rgb"), ("val_ref", "rgb_ref")):
            folder = f"fog/{part}/GOPR{number:04d}"
            save(root / f"rgb_anon/{folder}/{name}_{infix}_anon.png", np.zeros((8, 8, 3), np.uint8))
            labels = rng.choice([0, 2, 8, 10], (8, 8)).astype(np.uint8)
            save(root / f"gt/{folder}/{name}_{infix.replace('rgb', 'gt')}_labelTrainIds.png", labels)
    return root


def test_tables_are_never_cut_to_the_terminal(tmp_path, load, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    acdc = make_sequences(tmp_path / "acdc")
    load["one"], load["other"] = Fake(noisy(0.1), name="one"), Fake(noisy(0.3), name="b" * 50, sha256="1" * 64)
    words = ["evaluate", "one", "other", "--data", f"acdc={acdc}", "--source", "reference"]
    assert main([*words, "--out", str(tmp_path / "out"), "--no-report"]) == 0
    shown = capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "…" not in shown.split("rPD relative", 1)[1]
    assert "intervals over sequences (about 12)" in shown
    for model in metrics["models"]:
        figures = model["results"]["acdc"]["groups"]["fog"]
        for figure, scale, digits in ((figures["miou"], 100, 1), (figures["rpd"], 1, 2)):
            low, high = (f"{scale * bound:.{digits}f}" for bound in figure["interval"])
            assert f"{scale * figure['value']:.{digits}f} [{low}, {high}]" in shown


def test_the_pooled_row_is_shown_where_as_many_references_are_labelled(acdc, tmp_path, load, capsys):
    night = "night/val_ref/GOPR0356/GOPR0356_frame_000321"
    save(acdc / f"rgb_anon/{night}_rgb_ref_anon.png", np.full((2, 4, 3), 100, np.uint8))
    save(acdc / f"gt/{night}_gt_ref_labelTrainIds.png", A(FRAMES["reference"][0], np.uint8))
    load["x"] = Fake(by_hand)
    assert main(["evaluate", "x", "--data", f"acdc={acdc}", "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["data"]["acdc"]["frames"]["reference"] == 2
    assert "all conditions" in capsys.readouterr().out
    assert "all conditions" in (tmp_path / "out/report.html").read_text()


def test_a_single_group_is_not_shown_twice(cityscapes, tmp_path, load, capsys):
    load["x"] = Fake(noisy(0.1))
    assert main(["evaluate", "x", "--data", f"cityscapes={cityscapes}", "--out", str(tmp_path / "out")]) == 0
    assert "all conditions" not in capsys.readouterr().out
    assert "all conditions" not in (tmp_path / "out/report.html").read_text()


def test_why_there_are_no_intervals_stands_everywhere(acdc, tmp_path, load, capsys):
    load["x"] = Fake(by_hand)
    words = ["evaluate", "x", "--data", f"acdc={acdc}", "--out", str(tmp_path / "out"), "--record"]
    assert main(words) == 0
    why = "no intervals: 2 frames of 2 drives are too few"
    assert f"all conditions: {why}" in capsys.readouterr().out
    assert f"all conditions: {why}" in (tmp_path / "out/report.html").read_text()
    (row,) = [row for row in load["x"].rows if row["group"] == "all"]
    assert row["intervals"] == why
    assert (row["effective_units"], row["miou_interval"]) == (None, None)


def test_a_label_file_that_changes_its_kind_is_counted_again(cityscapes, tmp_path):
    out = tmp_path / "out"
    Session({"fake": Fake(noisy(0.1))}, [open_dataset("cityscapes", cityscapes)], out).run()
    # the same bytes under the name of training ids: 21, 23 and 26 are none
    for path in sorted(cityscapes.glob("gtFine/**/*_labelIds.png")):
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    with pytest.raises(InputError, match="in a labelTrainIds file; are these regular ids"):
        Session({"fake": Fake(noisy(0.1))}, [open_dataset("cityscapes", cityscapes)], out).run()


def test_an_evaluation_in_which_no_pixel_counts_is_an_error(cityscapes, tmp_path, load, capsys):
    for path in cityscapes.glob("gtFine/**/*_labelIds.png"):
        save(path, np.zeros((32, 40), np.uint8))
    load["x"] = Fake(noisy(0.1))
    assert main(["evaluate", "x", "--data", f"cityscapes={cityscapes}", "--out", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert "cityscapes clear: all pixels of 6 frames have the ignored label 255" in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out/metrics.json").exists()


def test_report_names_with_markup_are_escaped(acdc, tmp_path, load):
    load["x"] = Fake(by_hand, name="<script>alert(1)</script>")
    assert main(["evaluate", "x", "--data", f"acdc={acdc}", "--out", str(tmp_path / "out")]) == 0
    assert "<script>" not in (tmp_path / "out/report.html").read_text()


def test_limit_is_marked(cityscapes, tmp_path, load):
    load["x"] = Fake(noisy(0.1))
    out = tmp_path / "out"
    words = ["evaluate", "x", "--data", f"cityscapes={cityscapes}", "--out", str(out), "--limit", "2", "--no-report"]
    assert main(words) == 0
    assert len(load["x"].calls) == 2
    metrics = json.loads((out / "metrics.json").read_text())
    assert "--limit" in metrics["data"]["cityscapes"]["caveats"][-1]
    assert not (out / "report.html").exists()


def test_submission_holds_training_ids_under_the_names_of_the_images(tmp_path, load):
    root = tmp_path / "acdc"
    names = {"fog": "GOPR0475_frame_000148", "snow": "GOPR0122_frame_000161"}
    for condition, name in names.items():
        sequence = name.split("_")[0]
        save(root / f"rgb_anon/{condition}/test/{sequence}/{name}_rgb_anon.png", np.zeros((3, 5, 3), np.uint8))
        save(root / f"rgb_anon/{condition}/test_ref/{sequence}/{name}_rgb_ref_anon.png", np.zeros((3, 5, 3), np.uint8))
    labels = np.arange(15, dtype=np.uint8).reshape(3, 5)
    load["x"] = Fake(lambda frame: (labels, np.ones((3, 5), np.float32)))
    target = tmp_path / "zip" / "acdc.zip"
    words = ["evaluate", "x", "--data", f"acdc={root}", "--split", "test", "--submission", str(target)]
    assert main(words) == 0
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == [f"labelTrainIds/{name}_rgb_anon.png" for name in names.values()]
        for name in archive.namelist():
            image = Image.open(io.BytesIO(archive.read(name)))
            assert image.mode == "L"
            assert (np.asarray(image) == labels).all()
    first = target.read_bytes()
    assert main(words) == 0
    assert target.read_bytes() == first


def submit(root, target, kind="acdc", split="test"):
    return main(["evaluate", "x", "--data", f"{kind}={root}", "--split", split, "--submission", str(target)])


def make_acdc_test(root, shape=(3, 5), conditions=("fog", "night", "rain", "snow")):
    for number, condition in enumerate(conditions):
        name = f"GOPR{number:04d}_frame_000148_rgb_anon.png"
        save(root / f"rgb_anon/{condition}/test/GOPR{number:04d}/{name}", np.zeros((*shape, 3), np.uint8))
    return root


def small_server(monkeypatch, kind, size, count):
    """The server with tiny images and few of them in every part."""
    server = SERVERS[kind]
    monkeypatch.setitem(
        SERVERS, kind, dataclasses.replace(server, size=size, counts=dict.fromkeys(server.counts, count))
    )


def zeros(frame):
    return np.zeros(frame.camera.image.shape[:2], np.uint8), np.ones(frame.camera.image.shape[:2], np.float32)


def test_four_small_frames_of_a_model_with_eleven_classes_are_not_ready(tmp_path, load, capsys):
    load["x"] = Fake(zeros, classes=CAMVID)
    assert submit(make_acdc_test(tmp_path / "acdc"), tmp_path / "x.zip") == 0
    shown = capsys.readouterr().out.splitlines()
    assert "x.zip: 4 predictions as training ids" in shown[-4]
    assert shown[-3:] == [
        "not ready for the ACDC server: 4 frames, but the test split has 2000",
        "not ready for the ACDC server: 4 frames are not 1920 x 1080 pixels (4 are 5 x 3)",
        "not ready for the ACDC server: the model cannot predict 8 of the 19 classes, which will score 0: wall, "
        "traffic light, terrain, rider, truck, bus, train, motorcycle",
    ]


def test_a_complete_submission_is_ready(tmp_path, load, capsys, monkeypatch):
    small_server(monkeypatch, "acdc", (3, 5), 1)
    load["x"] = Fake(zeros)
    assert submit(make_acdc_test(tmp_path / "acdc"), tmp_path / "x.zip") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ready for the ACDC server"


def test_as_many_frames_of_other_conditions_are_not_ready(tmp_path, load, capsys, monkeypatch):
    small_server(monkeypatch, "acdc", (3, 5), 1)
    root = make_acdc_test(tmp_path / "acdc", conditions=("fog", "night", "rain"))
    save(root / "rgb_anon/rain/test/GOPR9/frame_7_rgb_anon.png", np.zeros((3, 5, 3), np.uint8))
    load["x"] = Fake(zeros)
    assert submit(root, tmp_path / "x.zip") == 0
    shown = capsys.readouterr().out
    assert "ready for the ACDC server\n" not in shown
    assert "frames are missing from a part of the test split: 2 of 1 in rain, 0 of 1 in snow" in shown
    assert "1 image names are not what the server expects, for example frame_7_rgb_anon.png" in shown


def test_as_many_frames_with_an_unknown_city_are_not_ready(tmp_path, load, capsys, monkeypatch):
    small_server(monkeypatch, "cityscapes", (3, 5), 1)
    for city in ("berlin", "bielefeld", "bonn", "leverkusen", "mainz", "ulm"):
        name = f"{city}/{city}_000000_000019_leftImg8bit.png"
        save(tmp_path / "cityscapes/leftImg8bit/test" / name, np.zeros((3, 5, 3), np.uint8))
    load["x"] = Fake(zeros)
    assert submit(tmp_path / "cityscapes", tmp_path / "x.zip", "cityscapes") == 0
    assert "missing from a part of the test split: 0 of 1 in munich" in capsys.readouterr().out


def test_another_split_is_not_ready(acdc, tmp_path, load, capsys, monkeypatch):
    small_server(monkeypatch, "acdc", (2, 4), 1)
    load["x"] = Fake(by_hand)
    monkeypatch.chdir(tmp_path)
    assert submit(acdc, tmp_path / "x.zip", split="val") == 0
    assert "not ready for the ACDC server: these frames are from the split val" in capsys.readouterr().out


def test_the_servers_want_the_published_test_splits():
    assert sum(SERVERS["acdc"].counts.values()) == 2000
    assert sum(SERVERS["cityscapes"].counts.values()) == 1525


def test_cityscapes_submission_holds_regular_ids(tmp_path, load, capsys, monkeypatch):
    small_server(monkeypatch, "cityscapes", (1, 19), 1)
    root = tmp_path / "cityscapes"
    cities = list(SERVERS["cityscapes"].counts)
    for city in cities:
        save(root / f"leftImg8bit/test/{city}/{city}_000000_000019_leftImg8bit.png", np.zeros((1, 19, 3), np.uint8))
    load["x"] = Fake(lambda frame: (np.arange(19, dtype=np.uint8)[None], np.ones((1, 19), np.float32)))
    assert submit(root, tmp_path / "x.zip", "cityscapes") == 0
    shown = capsys.readouterr().out
    assert f"{len(cities)} predictions as regular label ids" in shown
    assert shown.splitlines()[-1] == "ready for the Cityscapes server"
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        # the official script looks for exactly one CITY_SEQ_FRAME*.png per image
        for city in cities:
            (name,) = [name for name in archive.namelist() if re.fullmatch(f"{city}_000000_000019.*[.]png", name)]
            image = Image.open(io.BytesIO(archive.read(name)))
            assert image.mode == "L"
            # road to bicycle, as the label table of the Cityscapes scripts lists their ids
            expected = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
            assert np.asarray(image).tolist() == [expected]


def test_images_of_one_name_cannot_be_submitted(tmp_path, load, capsys):
    load["fake"] = Fake(lambda frame: np.zeros((4, 6)))
    for condition in ("fog", "rain"):
        save(
            tmp_path / "acdc" / f"rgb_anon/{condition}/test/GOPR1/GOPR1_frame_1_rgb_anon.png",
            A([[[0, 0, 0]] * 6] * 4, np.uint8),
        )
    words = ["evaluate", "fake", "--data", f"acdc={tmp_path / 'acdc'}", "--split", "test"]
    assert main([*words, "--submission", str(tmp_path / "a.zip")]) == 2
    assert "are named GOPR1_frame_1_rgb_anon.png" in capsys.readouterr().err
    assert not (tmp_path / "a.zip").exists()


def test_a_submission_is_mapped_to_training_ids(acdc, tmp_path, load):
    labels = A([[3, 4, 5, 0], [3, 4, 5, 0]], np.uint8)  # CamVid: road, pavement, tree, sky
    load["x"] = Fake(lambda frame: (labels, np.ones((2, 4), np.float32)), classes=CAMVID)
    target = tmp_path / "acdc.zip"
    words = ["evaluate", "x", "--data", f"acdc={acdc}", "--submission", str(target), "--out", str(tmp_path / "out")]
    assert main([*words, "--no-report"]) == 0
    with zipfile.ZipFile(target) as archive:
        image = np.asarray(Image.open(io.BytesIO(archive.read(archive.namelist()[0]))))
    assert image[0].tolist() == [0, 1, 8, 10]  # road, sidewalk, vegetation, sky
    assert (tmp_path / "out/metrics.json").exists()  # val has labels, so it is measured too


def test_two_folders_with_models_of_one_name_are_told_apart(acdc, tmp_path, load):
    load["a"], load["b"] = Fake(by_hand), Fake(noisy(0.2), sha256="1" * 64)
    out = tmp_path / "out"
    assert main(["evaluate", "a", "b", "--data", f"acdc={acdc}", "--out", str(out), "--no-report"]) == 0
    names = [model["name"] for model in json.loads((out / "metrics.json").read_text())["models"]]
    assert names == ["fake", "fake (b)"]


def test_an_interrupted_submission_leaves_nothing(acdc, tmp_path, load):
    load["x"] = Fake(by_hand, stop_after=1)
    words = ["evaluate", "x", "--data", f"acdc={acdc}", "--submission", str(tmp_path / "zip" / "x.zip")]
    assert main(words) == 130
    assert list((tmp_path / "zip").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch", "--data", "acdc={acdc}"], "unknown model 'nosuch'"),
        (["x"], "no data given; use --data synthetic"),
        (["x", "--data", "acdc={acdc}/rgb_anon"], "is not ACDC: looked for rgb_anon/"),
        (["x", "--data", "acdc={acdc}", "--split", "train"], "acdc train is empty"),
        (["x", "--data", "acdc={acdc}", "--data", "acdc={acdc}"], "data set acdc is given twice"),
        (["x", "x", "--data", "acdc={acdc}"], "model x is given twice"),
        (["x", "--data", "acdc={acdc}", "--limit", "0"], "limit 0"),
        (
            ["x", "--data", "acdc={acdc}", "--limit", "1", "--record"],
            "--record stores results of whole splits only; omit --limit",
        ),
        (["x", "--data", "acdc={acdc}", "--readers", "0"], "--readers 0"),
        (["x", "--data", "acdc={acdc}", "--source", "moon"], "--source 'moon' is neither"),
        (["x", "y", "--data", "acdc={acdc}", "--submission", "s.zip"], "--submission takes one model"),
        (["rooms", "--data", "acdc={acdc}"], "no table maps the classes rooms"),
        (["installed", "--data", "acdc={acdc}", "--record"], "cannot record measurements in installed"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, acdc, tmp_path, load, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load["x"], load["y"] = Fake(by_hand), Fake(by_hand)
    load["rooms"] = Fake(by_hand, classes=ClassTable("rooms", ("wall", "floor"), ((1, 1, 1), (2, 2, 2))))
    load["installed"] = Fake(by_hand)
    load["installed"].folder = Folder("installed")
    code = main(["evaluate", *(word.format(acdc=acdc) for word in words)])
    errors = capsys.readouterr().err
    assert code == 2
    assert errors.startswith("zoo: error: ")
    assert len(errors.splitlines()) == 1
    assert re.search(message, errors)


def test_the_test_split_without_a_submission_points_to_it(tmp_path, load, capsys):
    save(tmp_path / "rgb_anon/fog/test/GOPR0475/GOPR0475_frame_000148_rgb_anon.png", np.zeros((2, 4, 3), np.uint8))
    load["x"] = Fake(by_hand)
    assert main(["evaluate", "x", "--data", f"acdc={tmp_path}", "--split", "test"]) == 2
    assert "acdc test has no public labels to evaluate with; --submission FILE.zip" in capsys.readouterr().err


def test_labels_outside_the_classes_stop_the_command(cityscapes, tmp_path, load, capsys):
    save(cityscapes / "gtFine/val/ulm/ulm_000001_000003_gtFine_labelIds.png", np.full((32, 40), 99, np.uint8))
    load["x"] = Fake(noisy(0.1))
    assert main(["evaluate", "x", "--data", f"cityscapes={cityscapes}", "--out", str(tmp_path / "out")]) == 2
    assert "ulm_000001_000003_gtFine_labelIds.png holds label ids outside the classes: 99" in capsys.readouterr().err
    assert not (tmp_path / "out/metrics.json").exists()


def test_evaluate_imports_no_heavy_package():
    heavy = "[m for m in ('torch', 'timm', 'matplotlib', 'jinja2') if m in sys.modules]"
    code = f"import sys, zoo.evaluate.suite, zoo.evaluate.command; print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.real
@pytest.mark.skipif(not CAMVID_REAL.is_dir(), reason="../shared/real/camvid is not there")
def test_real_camvid_end_to_end(tmp_path, load):
    def predict(frame):
        labels = np.where(frame.camera.labels == 11, 0, frame.camera.labels).astype(np.uint8)
        shift = 12 if frame.group == "dusk" else 4
        return np.roll(labels, shift, axis=1), np.full(labels.shape, 0.8, np.float32)

    load["shifted"] = Fake(predict, classes=CAMVID, name="shifted")
    out = tmp_path / "out"
    words = [
        "evaluate",
        "shifted",
        "--data",
        f"camvid={CAMVID_REAL}",
        "--out",
        str(out),
        "--limit",
        "22",
        "--no-report",
    ]
    assert main(words) == 0
    groups = json.loads((out / "metrics.json").read_text())["models"][0]["results"]["camvid"]["groups"]
    assert [groups[name]["frames"] for name in ("day", "dusk", "all")] == [22, 22, 44]
    # The frames of val by day are seven seconds of one drive, those at dusk a minute of another.
    assert groups["day"]["miou"]["interval"] is None
    assert groups["day"]["sampling"]["words"].startswith("no intervals: 22 frames of one drive are worth about")
    low, high = groups["dusk"]["miou"]["interval"]
    assert 0 < low < groups["dusk"]["miou"]["value"] < high < 1
    assert groups["dusk"]["sampling"]["words"].startswith("intervals within one drive (about")
    assert groups["dusk"]["rpd"]["source"] == "camvid:day"
    assert groups["dusk"]["rpd"]["value"] < 1
