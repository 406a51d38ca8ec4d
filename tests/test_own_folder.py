"""The reader of one's own images and label maps: hand-made folders, and every mistake in one line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.cli import main
from zoo.data import open_dataset
from zoo.data.terms import terms_of
from zoo.errors import InputError

YAML = """
name: yard
classes:
  - {name: road, id: 7, color: [1, 2, 3]}
  - {name: grass, id: 300}
ignored: [0]
"""
IDS = [[7, 300], [0, 7]]
LABELS = [[0, 1], [255, 0]]


def add(root: Path, stem: str, ids: object = IDS, suffix: str = ".png", value: int = 90) -> None:
    labels = np.array(ids)
    for part, array in (("images", np.full((*labels.shape, 3), value, np.uint8)), ("labels", labels)):
        path = root / part / f"{stem}{suffix if part == 'images' else '.png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint16 if part == "labels" else np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path, "night/a", suffix=".jpg")
    add(tmp_path, "b")
    (tmp_path / "classes.yaml").write_text(YAML)
    return tmp_path


def test_subfolders_are_conditions_and_ids_become_labels(root: Path) -> None:
    (root / "images" / "._b.png").write_bytes(b"left by macOS")
    dataset = open_dataset("folder", root)
    assert [(frame.id, frame.group) for frame in dataset.frames] == [("b", "unknown"), ("night/a", "night")]
    assert dataset.classes.names == ("road", "grass")
    assert dataset.classes.colors[0] == (1, 2, 3)
    for frame in dataset.frames:
        assert frame.camera.image.shape == (2, 2, 3)
        assert frame.camera.labels is not None
        assert frame.camera.labels.dtype == np.uint8
        assert frame.camera.labels.tolist() == LABELS
    assert dataset.frames[1].condition.time_of_day == "night"
    assert not dataset.video
    assert len(dataset.caveats) == 2
    assert (terms_of(dataset).name, terms_of(dataset).licence) == ("yard", "unknown")


def test_columns_give_scene_time_condition_and_split(root: Path) -> None:
    add(root, "c")
    lines = [
        "file,timestamp,scene,condition,split",
        "night/a.jpg,2.5,s,fog,val",
        "c.png,1,s,clear,val",
        "b.png,0,r,clear,train",
    ]
    (root / "frames.csv").write_text("\n".join(lines))
    dataset = open_dataset("folder", root)
    found = [(frame.id, frame.scene, frame.timestamp_us, frame.group) for frame in dataset.frames]
    assert found == [("c", "s", 1_000_000, "clear"), ("night/a", "s", 2_500_000, "fog")]
    assert (dataset.video, dataset.source_group, dataset.caveats) == (True, "clear", ())
    assert [frame.id for frame in open_dataset("folder", root, "train").frames] == ["b"]
    assert len(open_dataset("folder", root, "all")) == 3
    with pytest.raises(InputError, match=r"no row with the split test in frames\.csv"):
        open_dataset("folder", root, "test")


def test_the_folder_of_the_page(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "other-models.md").read_text(encoding="utf-8")
    (classes,) = re.findall(r"```yaml\n(# classes\.yaml\n.*?)```", page, re.DOTALL)
    (rows,) = re.findall(r"```\n(file,.*?)```", page, re.DOTALL)
    add(tmp_path, "night/0001", [[7, 21]], suffix=".jpg")
    add(tmp_path, "0002", [[0, 255]], suffix=".jpg")
    (tmp_path / "classes.yaml").write_text(classes)
    (tmp_path / "frames.csv").write_text(rows)
    (train,) = open_dataset("folder", tmp_path, "train").frames
    assert (train.id, train.scene, train.timestamp_us, train.group) == ("night/0001", "drive-1", 12_500_000, "night")
    (val,) = open_dataset("folder", tmp_path, "val").frames
    assert val.group == "clear"
    assert val.camera.labels is not None
    assert val.camera.labels.tolist() == [[255, 255]]


def test_the_coding_of_the_labels_is_part_of_the_fingerprint(root: Path) -> None:
    before = open_dataset("folder", root).fingerprint()
    (root / "classes.yaml").write_text(YAML.replace("id: 7,", "id: 0,").replace("ignored: [0]", "ignored: [7]"))
    assert open_dataset("folder", root).fingerprint() != before


def rewrite(name: str, text: str):
    return lambda root: (root / name).write_text(text)


MISTAKES = {
    "no classes": (lambda root: (root / "classes.yaml").unlink(), r"classes\.yaml does not exist"),
    "no labels": (lambda root: (root / "labels").rename(root / "masks"), r"has no folder labels/"),
    "label missing": (lambda root: (root / "labels/b.png").unlink(), r"b\.png has no label map"),
    "image missing": (lambda root: (root / "images/b.png").unlink(), r"labels/b\.png has no image"),
    "twice": (lambda root: add(root, "b", suffix=".jpg"), "have the same name"),
    "other file": (rewrite("images/notes.txt", "x"), "is not one of .png"),
    "python tag": (rewrite("classes.yaml", "classes: !!python/object/apply:os.system [true]"), "tag .* is not allowed"),
    "unknown tag": (rewrite("classes.yaml", "classes: !x [a]"), "tag .* is not allowed"),
    "bomb": (rewrite("classes.yaml", "a: &a [x, x]\nclasses: [*a, *a]"), "anchors and aliases are not allowed"),
    "deep": (rewrite("classes.yaml", "classes: " + "[" * 5000), "nested more than 16 levels"),
    "huge": (rewrite("classes.yaml", "#" * 300_000), "has 300,000 bytes; at most 262,144"),
    "binary": (lambda root: (root / "classes.yaml").write_bytes(b"\xff\xfe\x00"), "not UTF-8"),
    "no yaml": (rewrite("classes.yaml", "classes: [a, b"), r"line 1"),
    "key twice": (rewrite("classes.yaml", "classes: [a]\nclasses: [b]"), "'classes' occurs twice"),
    "long number": (rewrite("classes.yaml", "classes: {" + "9" * 5000 + ": a}"), r"classes\.yaml: "),
    "list": (rewrite("classes.yaml", "- a"), "must be a table"),
    "unknown key": (rewrite("classes.yaml", "classes: [a]\nignore: [1]"), "unknown key .*ignore"),
    "no word": (rewrite("classes.yaml", "classes: [road, no]"), "class 2: expected a name, got False"),
    "names twice": (rewrite("classes.yaml", "classes: [a, a]"), "two classes have the name 'a'"),
    "ids twice": (rewrite("classes.yaml", "classes: [{name: a, id: 1}, b]"), "two classes have the id 1"),
    "both": (rewrite("classes.yaml", "classes: {255: a}"), "id 255 is a class and ignored"),
    "bad color": (rewrite("classes.yaml", "classes: [{name: a, color: [1, 2, 300]}]"), "color .* is not three"),
    "too many": (
        rewrite("classes.yaml", f"classes: {list(map(str, range(256)))}"),
        "has 256 classes; expected 1 to 255",
    ),
    "published name": (rewrite("classes.yaml", "name: CamVid\nclasses: [a]"), "name of a published data set"),
    "unknown set": (rewrite("classes.yaml", "classes: citiscapes"), "closest: cityscapes"),
    "csv column": (rewrite("frames.csv", "file,conditon\nb.png,x"), "closest: condition"),
    "csv no file": (rewrite("frames.csv", "name\nb"), "no column file"),
    "csv row": (rewrite("frames.csv", "file\nb.png"), r"no row for .*night/a\.jpg"),
    "csv unknown": (rewrite("frames.csv", "file\nx.png"), r"line 2: no image .*x\.png"),
    "csv outside": (rewrite("frames.csv", "file\n../b.png"), "line 2: no image"),
    "csv twice": (rewrite("frames.csv", "file\nb.png\nb.png"), "line 3: b.png occurs twice"),
    "csv values": (rewrite("frames.csv", "file,scene\nb.png"), "line 2 has 1 values; expected 2"),
    "csv time": (rewrite("frames.csv", "file,timestamp\nb.png,nan"), "timestamp 'nan' is not a number"),
    "csv split": (rewrite("frames.csv", "file,split\nb.png,valid"), "split 'valid' is none of"),
    "csv group": (rewrite("frames.csv", "file,condition\nb.png,all\nnight/a.jpg,x"), "the condition 'all' must be"),
    "csv quotes": (rewrite("frames.csv", 'file\n"b.png'), "not a table of comma-separated values"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(mistake: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, message = MISTAKES[mistake]
    spoil(root)
    words = ["evaluate", "supervised-resnet18w48-synthetic.fpn-camvid", "--data", f"folder={root}"]
    assert main([*words, "--out", str(root / "out")]) == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown)
    assert shown.count("\n") == 1
    assert not (root / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: add(root, "b", [[7, 8], [9, 0]]), r"b\.png holds ids outside the classes: 8, 9; .* 7, 300"),
        (lambda root: Image.new("RGB", (2, 2)).save(root / "labels/b.png"), "mode RGB; a label map has one channel"),
        (lambda root: Image.new("L", (3, 2), 7).save(root / "labels/b.png"), "2 x 2 pixels, but its labels 3 x 2"),
        (lambda root: (root / "labels/b.png").write_bytes(b"no image"), "not a readable image"),
    ],
)
def test_a_label_map_that_does_not_fit_stops_the_evaluation(spoil, message: str, root: Path, tmp_path: Path) -> None:
    from zoo.evaluate.core import load_frame

    spoil(root)
    (frame,) = [frame for frame in open_dataset("folder", root).frames if frame.id == "b"]
    with pytest.raises(InputError, match=message):
        load_frame(frame)


def test_a_segmenter_is_trained_on_a_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        add(tmp_path, f"{number}", rng.choice([0, 7, 300], (40, 48)), value=60 * number)
    (tmp_path / "classes.yaml").write_text(YAML)
    out = tmp_path / "out"
    model = "supervised-resnet18w48-synthetic.fpn-synthetic"
    words = f"train segmenter --model {model} --init random --data folder={tmp_path} --out {out} --steps 1 --batch 2"
    assert main([*words.split(), "--crop", "32", "32", "--workers", "0", "--device", "cpu"]) == 0
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["output"]["classes"]["names"] == ["road", "grass"]
    (trained,) = config["provenance"]["trained_on"]
    assert (trained["name"], trained["frames"]) == ("yard", 3)
    assert config["licence"]["weights"] == "unknown"
