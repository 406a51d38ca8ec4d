"""Readers on hand-made folders of the official layouts, and on the real CamVid frames where they are."""

import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.classes import CAMVID, CITYSCAPES
from zoo.condition import Condition
from zoo.data import READERS, Dataset, open_dataset, parse_source
from zoo.data.camvid import training_split
from zoo.data.labels import CITYSCAPES_IDS, LABEL_FROM_ID, read_label_ids
from zoo.errors import InputError
from zoo.frame import frame_from_image

CAMVID_REAL = Path(__file__).parents[2] / "shared" / "real" / "camvid"
PIXEL = np.zeros((2, 3), np.uint8)


def save(path: Path, array: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path)
    return path


def rgb(value: int = 90, height: int = 2, width: int = 3) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 6), (7, 2)])
def test_regular_ids_become_labels_at_odd_and_even_sizes(tmp_path: Path, shape: tuple[int, int]) -> None:
    ids = np.random.default_rng(0).integers(0, 34, shape).astype(np.uint8)
    by_hand = [CITYSCAPES_IDS.index(i) if i in CITYSCAPES_IDS else 255 for i in ids.ravel().tolist()]
    labels = read_label_ids(save(tmp_path / "a_labelIds.png", ids))
    assert labels.shape == shape
    assert labels.ravel().tolist() == by_hand


def make_cityscapes(
    root: Path, split: str = "val", names: tuple[str, ...] = ("frankfurt_000000_000294", "lindau_000001_000019")
) -> Path:
    for name in names:
        city = name.split("_")[0]
        save(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", rgb())
        stem = root / f"gtFine/{split}/{city}/{name}_gtFine"
        save(Path(f"{stem}_labelIds.png"), np.array([[7, 26, 0], [33, 23, 18]], np.uint8))
        save(Path(f"{stem}_instanceIds.png"), np.array([[7, 26001, 0], [33000, 23, 18]], np.uint16))
    return root


def make_acdc(root: Path, split: str = "val", reference_labels: bool = True) -> Path:
    for condition, name in (("fog", "GOPR0475_frame_000148"), ("night", "GOPR0356_frame_000321")):
        sequence = name.split("_")[0]
        save(root / f"rgb_anon/{condition}/{split}/{sequence}/{name}_rgb_anon.png", rgb())
        save(root / f"rgb_anon/{condition}/{split}_ref/{sequence}/{name}_rgb_ref_anon.png", rgb(120))
        if split != "test":
            labels = root / f"gt/{condition}/{split}/{sequence}/{name}"
            save(Path(f"{labels}_gt_labelTrainIds.png"), np.array([[0, 13, 255], [18, 10, 255]], np.uint8))
            save(Path(f"{labels}_gt_labelIds.png"), np.array([[7, 26, 0], [33, 23, 0]], np.uint8))
            save(Path(f"{labels}_gt_invIds.png"), np.array([[0, 0, 1], [0, 1, 0]], np.uint8))
            if reference_labels:
                reference = root / f"gt/{condition}/{split}_ref/{sequence}/{name}_gt_ref_labelTrainIds.png"
                save(reference, np.array([[0, 0, 0], [0, 0, 10]], np.uint8))
    return root


def make_camvid(
    root: Path, names: tuple[str, ...] = ("0001TP_006690", "0006R0_f00930", "0016E5_00390"), folder: str = "train"
) -> Path:
    for name in names:
        save(root / folder / f"{name}.png", rgb())
        save(root / f"{folder}annot" / f"{name}.png", np.array([[0, 11, 10], [3, 3, 3]], np.uint8))
    return root


# The 32 classes of CamVid in alphabetical order, their colours as `label_colors.txt` lists them, and the numbers of
# SegNet's classes to which MathWorks' CamVid example assigns them: 0 sky, 1 building, 2 pole, 3 road, 4 pavement,
# 5 tree, 6 sign, 7 fence, 8 car, 9 pedestrian, 10 bicyclist; 11 is ignored.
LABEL_COLORS = """
64 128 64 Animal 9
192 0 128 Archway 1
0 128 192 Bicyclist 10
0 128 64 Bridge 1
128 0 0 Building 1
64 0 128 Car 8
64 0 192 CartLuggagePram 9
192 128 64 Child 9
192 192 128 Column_Pole 2
64 64 128 Fence 7
128 0 192 LaneMkgsDriv 3
192 0 64 LaneMkgsNonDriv 3
128 128 64 Misc_Text 6
192 0 192 MotorcycleScooter 10
128 64 64 OtherMoving 8
64 192 128 ParkingBlock 4
64 64 0 Pedestrian 9
128 64 128 Road 3
128 128 192 RoadShoulder 4
0 0 192 Sidewalk 4
192 128 128 SignSymbol 6
128 128 128 Sky 0
64 128 192 SUVPickupTruck 8
0 0 64 TrafficCone 2
0 64 64 TrafficLight 6
192 64 128 Train 8
128 128 0 Tree 5
192 128 192 Truck_Bus 8
64 0 64 Tunnel 1
192 192 0 VegetationMisc 5
0 0 0 Void 11
64 192 0 Wall 1
"""
ORIGINAL = [line.split() for line in LABEL_COLORS.split("\n") if line]
COLOURS = np.array([[list(map(int, row[:3])) for row in ORIGINAL]], np.uint8)  # one row of 32 pixels
GROUPED = [[int(row[4]) for row in ORIGINAL]]


def make_coloured(root: Path, images: str, labels: str, names: tuple[str, ...] = ("0016E5_07959",)) -> Path:
    for name in names:
        save(root / images / f"{name}.png", rgb(90, 1, 32))
        save(root / labels / f"{name}_L.png", COLOURS)
    return root


def make_fastai(root: Path, names: tuple[str, ...] = ("0016E5_07959",)) -> Path:
    for name in names:
        save(root / "images" / f"{name}.png", rgb(90, 1, 32))
        save(root / "labels" / f"{name}_P.png", np.arange(32, dtype=np.uint8)[None])
    (root / "codes.txt").write_text("\n".join(row[3] for row in ORIGINAL) + "\n")
    (root / "valid.txt").write_text("0016E5_07959.png\n")
    return root


NAMES = ("0001TP_006690", "0001TP_008550", "0006R0_f00930", "0016E5_00390", "0016E5_07959", "Seq05VD_f00000")


@pytest.mark.parametrize(
    "make",
    [
        lambda root: make_coloured(root, "val", "val_labels"),
        lambda root: make_coloured(root / "CamVid", "val", "val_labels"),
        lambda root: make_coloured(root, "701_StillsRaw_full", "LabeledApproved_full", NAMES),
        make_fastai,
        lambda root: make_fastai(root / "camvid", NAMES),
    ],
)
def test_camvid_of_32_classes_becomes_the_11(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(tmp_path)
    dataset = open_dataset("camvid", tmp_path)
    assert dataset.classes is CAMVID
    for frame in dataset.frames:
        assert frame.camera.labels.dtype == np.uint8
        assert frame.camera.labels.tolist() == GROUPED
        assert pickle.loads(pickle.dumps(frame)).camera.labels.tolist() == GROUPED
    assert "0016E5_07959" in {frame.id for frame in dataset.frames}


@pytest.mark.parametrize(
    "make",
    [
        lambda root: make_coloured(root, "701_StillsRaw_full", "LabeledApproved_full", NAMES),
        lambda r: make_fastai(r, NAMES),
    ],
)
def test_camvid_without_split_folders_is_split_by_name(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(tmp_path)
    ids = {split: {f.id for f in open_dataset("camvid", tmp_path, split).frames} for split in ("train", "val", "test")}
    assert ids["train"] == {"0001TP_006690", "0006R0_f00930", "0016E5_00390"}
    assert ids["val"] == {"0016E5_07959", "0001TP_006690"}  # with the dusk frames of train, as in every form
    assert ids["test"] == {"0001TP_008550", "Seq05VD_f00000"}
    assert len(open_dataset("camvid", tmp_path, "all")) == 6


@pytest.mark.real
@pytest.mark.skipif(not CAMVID_REAL.is_dir(), reason="../shared/real/camvid is not there")
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_split_by_name_is_that_of_the_folders(tmp_path: Path, split: str) -> None:
    names = [path.stem for folder in ("train", "val") for path in (CAMVID_REAL / folder).glob("*.jpg")]
    make_fastai(tmp_path, names)
    found = {frame.id for frame in open_dataset("camvid", tmp_path, split).frames}
    assert found == {frame.id for frame in open_dataset("camvid", CAMVID_REAL, split).frames}


def test_camvid_takes_255_for_ignore(tmp_path: Path) -> None:
    make_camvid(tmp_path, ("0016E5_1",), "val")
    save(tmp_path / "valannot/0016E5_1.png", np.array([[255, 0, 10]], np.uint8))
    assert open_dataset("camvid", tmp_path).frames[0].camera.labels.tolist() == [[11, 0, 10]]


def test_a_colour_that_is_no_class_is_named_with_its_place(tmp_path: Path) -> None:
    make_coloured(tmp_path, "val", "val_labels")
    wrong = COLOURS.copy()
    wrong[0, 20:22] = [[191, 128, 127], [193, 128, 128]]  # a JPEG's idea of SignSymbol
    save(tmp_path / "val_labels/0016E5_07959_L.png", wrong)
    message = r"_L\.png holds the colour \(191, 128, 127\) at x 20, y 0, .* \(2 such pixels\).*JPEG"
    with pytest.raises(InputError, match=message):
        _ = open_dataset("camvid", tmp_path).frames[0].camera.labels


def test_codes_that_camvid_does_not_have_are_named(tmp_path: Path) -> None:
    make_fastai(tmp_path)
    (tmp_path / "codes.txt").write_text("Animal\nDinosaur\n")
    with pytest.raises(InputError, match=r"codes\.txt names 'Dinosaur', which is not one of CamVid's 32 classes"):
        open_dataset("camvid", tmp_path)
    (tmp_path / "codes.txt").write_text("Animal\nArchway\n")
    with pytest.raises(InputError, match=r"outside the classes: 2, 3, .*; allowed are 0 to 1"):
        _ = open_dataset("camvid", tmp_path).frames[0].camera.labels
    (tmp_path / "codes.txt").unlink()
    with pytest.raises(InputError, match=r"codes\.txt cannot be read; it names the classes"):
        open_dataset("camvid", tmp_path)


def test_a_frame_of_no_known_sequence_has_no_split(tmp_path: Path) -> None:
    make_fastai(tmp_path, ("holiday_1",))
    with pytest.raises(InputError, match=r"holiday_1\.png is not named like CamVid's frames"):
        open_dataset("camvid", tmp_path)


def test_cityscapes_labels_and_instances(tmp_path: Path) -> None:
    dataset = open_dataset("cityscapes", make_cityscapes(tmp_path))
    assert [frame.id for frame in dataset.frames] == ["frankfurt_000000_000294", "lindau_000001_000019"]
    assert dataset.classes is CITYSCAPES
    assert dataset.instances
    frame = dataset.frames[0]
    assert (frame.group, frame.scene, frame.condition) == ("clear", "frankfurt_000000", Condition())
    camera = frame.camera
    assert camera.image.shape == (2, 3, 3)
    assert camera.labels.dtype == np.uint8
    assert camera.labels.tolist() == [[0, 13, 255], [18, 10, 255]]  # road, car, ignored; bicycle, sky, polegroup
    assert camera.instances.dtype == np.int32
    assert camera.instances.tolist() == [[7, 26001, 0], [33000, 23, 18]]


def test_cityscapes_training_ids_serve_where_there_are_no_regular_ones(tmp_path: Path) -> None:
    make_cityscapes(tmp_path, names=("ulm_000000_000019",))
    stem = tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_"
    Path(f"{stem}labelIds.png").unlink()
    save(Path(f"{stem}labelTrainIds.png"), np.array([[0, 18, 255], [1, 2, 3]], np.uint8))
    labels = open_dataset("cityscapes", tmp_path).frames[0].camera.labels
    assert labels.tolist() == [[0, 18, 255], [1, 2, 3]]


def test_cityscapes_test_labels_are_dummies_and_not_offered(tmp_path: Path) -> None:
    make_cityscapes(tmp_path, split="test", names=("berlin_000000_000019",))
    camera = open_dataset("cityscapes", tmp_path, "test").frames[0].camera
    assert camera.labels is None
    assert camera.instances is None


def test_side_by_side_archives_are_found(tmp_path: Path) -> None:
    make_cityscapes(tmp_path / "there")
    for archive, folder in (("leftImg8bit_trainvaltest", "leftImg8bit"), ("gtFine_trainvaltest", "gtFine")):
        (tmp_path / archive).mkdir()
        shutil.move(tmp_path / "there" / folder, tmp_path / archive / folder)
    assert len(open_dataset("cityscapes", tmp_path)) == 2


def test_regular_ids_are_the_nineteen_of_the_label_table() -> None:
    # trainId -> id as the Cityscapes label table lists it
    assert CITYSCAPES_IDS == (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    assert [int(LABEL_FROM_ID[i]) for i in CITYSCAPES_IDS] == list(range(19))
    assert Counter(LABEL_FROM_ID.tolist())[255] == 256 - 19


def test_acdc_groups_masks_and_references(tmp_path: Path) -> None:
    dataset = open_dataset("acdc", make_acdc(tmp_path))
    by_id = {frame.id: frame for frame in dataset.frames}
    assert dataset.groups == ("fog", "night", "reference")
    assert (dataset.source_group, dataset.source_data, dataset.outside_pool) == (
        "reference",
        "cityscapes",
        ("reference",),
    )
    fog, night = by_id["fog_GOPR0475_frame_000148"], by_id["night_GOPR0356_frame_000321"]
    assert fog.condition == Condition(weather="fog")
    assert night.condition == Condition(time_of_day="night")
    assert fog.camera.labels.tolist() == [[0, 13, 255], [18, 10, 255]]
    assert fog.camera.invalid.tolist() == [[False, False, True], [False, True, False]]
    reference = by_id["fog_GOPR0475_frame_000148_ref"]
    assert (reference.group, reference.condition) == ("reference", Condition())
    assert reference.camera.image.max() == 120
    assert reference.camera.labels.tolist() == [[0, 0, 0], [0, 0, 10]]
    assert [frame.group for frame in open_dataset("acdc", tmp_path, reference=False).frames] == ["fog", "night"]


def test_acdc_reference_labels_may_be_missing(tmp_path: Path) -> None:
    dataset = open_dataset("acdc", make_acdc(tmp_path, reference_labels=False))
    assert dataset.source_group is None
    assert all((frame.camera.labels is None) == (frame.group == "reference") for frame in dataset.frames)


def test_acdc_test_split_has_no_labels_and_needs_no_label_folder(tmp_path: Path) -> None:
    dataset = open_dataset("acdc", make_acdc(tmp_path, split="test"), "test")
    assert len(dataset) == 4
    assert all(frame.camera.labels is None for frame in dataset.frames)


def test_camvid_val_is_the_val_folder_and_the_dusk_frames_of_train(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    make_camvid(tmp_path, ("0016E5_07959",), "val")
    make_camvid(tmp_path, ("0001TP_008550", "Seq05VD_f00000"), "test")
    ids = {split: [frame.id for frame in open_dataset("camvid", tmp_path, split).frames] for split in ("val", "test")}
    assert ids["val"] == ["0016E5_07959", "0001TP_006690"]
    assert ids["test"] == ["0001TP_008550", "Seq05VD_f00000"]
    dataset = open_dataset("camvid", tmp_path, "val")
    assert {frame.id: frame.group for frame in dataset.frames} == {"0016E5_07959": "day", "0001TP_006690": "dusk"}
    assert dataset.frames[1].condition.time_of_day == "dusk"
    assert (dataset.video, dataset.absent_classes, dataset.source_group) == (True, "zero", "day")
    assert len(dataset.caveats) == 2
    assert len(open_dataset("camvid", tmp_path, "all")) == 6


def test_camvid_reads_png_and_jpg_and_prefers_the_lossless_one(tmp_path: Path) -> None:
    make_camvid(tmp_path, ("0016E5_07959",), "val")
    Image.fromarray(rgb(10)).save(tmp_path / "val" / "0016E5_07959.jpg")
    make_camvid(tmp_path, ("0016E5_07961",), "val")
    (tmp_path / "val" / "0016E5_07961.png").unlink()
    Image.fromarray(rgb(10)).save(tmp_path / "val" / "0016E5_07961.jpg")
    paths = [frame.camera.image_path.name for frame in open_dataset("camvid", tmp_path).frames]
    assert paths == ["0016E5_07959.png", "0016E5_07961.jpg"]


def test_camvid_holdout_is_the_end_of_each_day_sequence(tmp_path: Path) -> None:
    make_camvid(tmp_path, [f"0016E5_{i:05d}" for i in range(20)] + [f"0006R0_f{i:05d}" for i in range(7)])
    make_camvid(tmp_path, [f"0001TP_{i:06d}" for i in range(5)])
    dataset = open_dataset("camvid", tmp_path, "train")
    training, held = training_split(dataset)
    # 15 % of 20 is 3, of 7 is 1.05, rounded to 1; no dusk
    assert [frame.id for frame in held] == ["0006R0_f00006", "0016E5_00017", "0016E5_00018", "0016E5_00019"]
    assert len(training) == 23
    assert all(frame.group == "day" for frame in training + held)
    with pytest.raises(InputError, match="not from camvid val"):
        training_split(Dataset(kind="camvid", root=None, split="val", classes=CAMVID, frames=dataset.frames))


@pytest.mark.parametrize("wrong", [-0.1, 1.0])
def test_camvid_holdout_share_is_checked(tmp_path: Path, wrong: float) -> None:
    with pytest.raises(InputError, match="outside 0 to 1"):
        training_split(open_dataset("camvid", make_camvid(tmp_path), "train"), holdout=wrong)


def test_frames_decode_late_and_pickle(tmp_path: Path) -> None:
    dataset = open_dataset("cityscapes", make_cityscapes(tmp_path))
    copy = pickle.loads(pickle.dumps(dataset.frames[0]))
    assert (copy.camera.labels == dataset.frames[0].camera.labels).all()
    dataset.frames[1].camera.image_path.unlink()
    with pytest.raises(InputError, match=r"leftImg8bit\.png does not exist"):
        _ = dataset.frames[1].camera.image


def test_select_keeps_order_and_spaces_evenly(tmp_path: Path) -> None:
    dataset = open_dataset("camvid", make_camvid(tmp_path, [f"0016E5_{i:05d}" for i in range(10)], "val"))
    assert [frame.id[-1] for frame in dataset.select(limit=4).frames] == ["0", "2", "5", "7"]
    assert len(dataset.select(limit=99)) == 10
    acdc = open_dataset("acdc", make_acdc(tmp_path / "acdc"))
    assert acdc.select(groups=["night", "fog"]).groups == ("fog", "night")
    with pytest.raises(InputError, match="no group 'snow'; groups: fog, night, reference"):
        acdc.select(groups=["snow"])
    with pytest.raises(InputError, match="limit 0"):
        acdc.select(limit=0)


def test_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    first = open_dataset("cityscapes", make_cityscapes(tmp_path / "a")).fingerprint()
    assert open_dataset("cityscapes", make_cityscapes(tmp_path / "b")).fingerprint() == first
    dataset = open_dataset("cityscapes", tmp_path / "b")
    assert dataset.select(limit=1).fingerprint() != first
    label = dataset.frames[0].meta["files"]["labels"]
    save(label, np.array([[8, 26, 0], [33, 23, 18]], np.uint8))
    assert dataset.fingerprint() != first


@pytest.mark.parametrize("kind", ["cityscapes", "acdc"])
def test_fingerprint_covers_how_a_label_file_is_read(tmp_path: Path, kind: str) -> None:
    # the same bytes, once as regular and once as training ids, are other labels
    make = {"cityscapes": make_cityscapes, "acdc": make_acdc}[kind]
    make(tmp_path)
    for path in tmp_path.rglob("*_labelTrainIds.png"):
        path.unlink()
    regular = open_dataset(kind, tmp_path).fingerprint()
    for path in sorted(tmp_path.rglob("*_labelIds.png")):
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    assert open_dataset(kind, tmp_path).fingerprint() != regular


def test_fingerprint_of_frames_without_files_is_of_their_arrays() -> None:
    def dataset(value: int) -> Dataset:
        frames = (frame_from_image(rgb(value), labels=PIXEL),)
        return Dataset(kind="synthetic", root=None, split="val", classes=CITYSCAPES, frames=frames)

    assert dataset(1).fingerprint() == dataset(1).fingerprint()
    assert dataset(1).fingerprint() != dataset(2).fingerprint()


def test_two_frames_of_one_name_are_refused() -> None:
    frames = (frame_from_image(rgb(), id="a"), frame_from_image(rgb(), id="a"))
    with pytest.raises(InputError, match="two frames are called a"):
        Dataset(kind="synthetic", root=None, split="val", classes=CITYSCAPES, frames=frames)


def test_every_reader_can_be_imported() -> None:
    import importlib

    for reader in READERS.values():
        module, function = reader.function.split(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("kind", "split", "prepare", "message"),
    [
        ("citiscapes", "val", None, r"unknown data set 'citiscapes'; closest: cityscapes.*known: a2d2, acdc"),
        ("cityscapes", "valid", None, r"no split 'valid'; closest: val.*train, val, test"),
        ("cityscapes", "val", None, r"is not Cityscapes: looked for leftImg8bit/ or .* in it, found nothing"),
        ("acdc", "val", None, "is not ACDC: looked for rgb_anon/"),
        (
            "camvid",
            "val",
            None,
            r"is not CamVid in a known form: looked for .* valannot/ \(SegNet\), .*; found nothing",
        ),
        ("cityscapes", "train", make_cityscapes, r"cityscapes train is empty: no file .*leftImg8bit/train/CITY/"),
        ("acdc", "train", make_acdc, r"acdc train is empty: no file .*fog\|night\|rain\|snow/train/SEQ/"),
        ("camvid", "test", make_camvid, "no folder .*test"),
    ],
)
def test_wrong_names_layouts_and_empty_splits(
    tmp_path: Path, kind: str, split: str, prepare: Callable[[Path], object], message: str
) -> None:
    if prepare:
        prepare(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        open_dataset(kind, tmp_path, split)
    assert "\n" not in str(error.value)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        open_dataset("acdc", tmp_path / "nowhere")
    with pytest.raises(InputError, match="acdc needs its folder: --data acdc=DIR"):
        open_dataset("acdc")
    with pytest.raises(InputError, match="embedded and take no folder"):
        open_dataset("synthetic", tmp_path)


def test_an_empty_camvid_folder_is_an_empty_split(tmp_path: Path) -> None:
    make_camvid(tmp_path)  # the dusk frame of train/ alone is no val split
    (tmp_path / "val").mkdir()
    with pytest.raises(InputError, match=r"camvid val is empty: no \.png or \.jpg image of it in .*val"):
        open_dataset("camvid", tmp_path)


def make_flat_acdc(root: Path, split: str = "val") -> Path:
    """As `make_acdc`, with everything moved into one folder per split."""
    make_acdc(root / "there", split)
    for path in (root / "there").rglob("*.png"):
        top, _, part = path.relative_to(root / "there").parts[:3]
        (root / top / part).mkdir(parents=True, exist_ok=True)
        path.rename(root / top / part / path.name)
    shutil.rmtree(root / "there")
    return root


def test_acdc_in_flat_folders_is_one_unknown_condition(tmp_path: Path) -> None:
    dataset = open_dataset("acdc", make_flat_acdc(tmp_path))
    assert dataset.groups == ("unknown", "reference")
    assert (dataset.source_group, dataset.source_data) == (None, None)
    assert "do not record whether a frame shows fog" in dataset.caveats[0]
    by_id = {frame.id: frame for frame in dataset.frames}
    fog = by_id["unknown_GOPR0475_frame_000148"]
    assert fog.scene == "unknown/GOPR0475"
    assert fog.camera.labels.tolist() == [[0, 13, 255], [18, 10, 255]]
    assert fog.camera.invalid.tolist() == [[False, False, True], [False, True, False]]
    assert by_id["unknown_GOPR0475_frame_000148_ref"].camera.labels.tolist() == [[0, 0, 0], [0, 0, 10]]
    assert open_dataset("acdc", tmp_path, reference=False).groups == ("unknown",)


def test_flat_acdc_test_needs_no_labels(tmp_path: Path) -> None:
    dataset = open_dataset("acdc", make_flat_acdc(tmp_path, "test"), "test")
    assert Counter(frame.group for frame in dataset.frames) == {"unknown": 2, "reference": 2}
    assert all(frame.camera.labels is None for frame in dataset.frames)


def test_acdc_frames_of_a_recording_are_not_independent(tmp_path: Path) -> None:
    dataset = open_dataset("acdc", make_acdc(tmp_path))
    assert dataset.video
    assert [frame.scene for frame in dataset.frames if frame.group != "reference"] == ["fog/GOPR0475", "night/GOPR0356"]


def test_what_macos_and_windows_add_is_no_frame(tmp_path: Path) -> None:
    made = {
        "cityscapes": make_cityscapes(tmp_path / "cityscapes"),
        "acdc": make_acdc(tmp_path / "acdc"),
        "camvid": make_camvid(tmp_path / "camvid", ("0016E5_07959",), "val"),
        "flat": make_flat_acdc(tmp_path / "flat"),
        "colours": make_coloured(tmp_path / "colours", "val", "val_labels"),
        "fastai": make_fastai(tmp_path / "fastai"),
    }
    kinds = {"flat": "acdc", "colours": "camvid", "fastai": "camvid"}
    before = {name: open_dataset(kinds.get(name, name), root).fingerprint() for name, root in made.items()}
    for root in made.values():
        for path in list(root.rglob("*")):
            # as `tar` and `zip` on a Mac write them: a few hundred bytes that are no image
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
            if path.is_dir():
                (path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
                (path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
        (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    for name, root in made.items():
        assert open_dataset(kinds.get(name, name), root).fingerprint() == before[name], name


@pytest.mark.parametrize(
    ("prepare", "kind", "pattern"),
    [
        (make_cityscapes, "cityscapes", "gtFine/**/*labelIds.png"),
        (make_acdc, "acdc", "gt/fog/val/**/*label*.png"),
        (lambda root: make_camvid(root, ("0016E5_1",), "val"), "camvid", "valannot/*.png"),
    ],
)
def test_an_image_without_labels_names_what_was_looked_for(
    tmp_path: Path, prepare: Callable[[Path], object], kind: str, pattern: str
) -> None:
    prepare(tmp_path)
    for path in tmp_path.glob(pattern):
        path.unlink()
    with pytest.raises(InputError, match=r"has no label.*; looked for .*\.png"):
        open_dataset(kind, tmp_path)


@pytest.mark.parametrize(
    ("name", "ids", "message"),
    [
        ("labelIds", [[7, 34]], r"labelIds\.png holds label ids outside the classes: 34; allowed are 0 to 33"),
        (
            "labelIds",
            [[0, 255]],
            "outside the classes: 255; allowed are 0 to 33 in a labelIds file; are these training",
        ),
        ("labelTrainIds", [[19, 33]], "outside the classes: 19, 33; allowed are 0 to 18 and 255.*are these regular"),
    ],
)
def test_cityscapes_ids_outside_the_classes(tmp_path: Path, name: str, ids: Any, message: str) -> None:
    make_cityscapes(tmp_path, names=("ulm_000000_000019",))
    stem = tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_"
    Path(f"{stem}labelIds.png").unlink()
    save(Path(f"{stem}{name}.png"), np.array(ids, np.uint8))
    with pytest.raises(InputError, match=message):
        _ = open_dataset("cityscapes", tmp_path).frames[0].camera.labels


def test_camvid_and_mask_ids_outside_their_range(tmp_path: Path) -> None:
    make_camvid(tmp_path, ("0016E5_1",), "val")
    save(tmp_path / "valannot/0016E5_1.png", np.array([[12, 0]], np.uint8))
    with pytest.raises(InputError, match=r"0016E5_1\.png holds label ids outside the classes: 12; allowed are 0 to 11"):
        _ = open_dataset("camvid", tmp_path).frames[0].camera.labels
    make_acdc(tmp_path)
    mask = next(tmp_path.glob("gt/fog/val/*/*invIds.png"))
    save(mask, np.array([[255, 0, 0]], np.uint8))
    with pytest.raises(InputError, match="outside the classes: 255; allowed are 0 to 1"):
        _ = open_dataset("acdc", tmp_path).frames[0].camera.invalid


def test_colour_labels_are_refused(tmp_path: Path) -> None:
    make_camvid(tmp_path, ("0016E5_1",), "val")
    save(tmp_path / "valannot/0016E5_1.png", rgb())
    with pytest.raises(InputError, match="mode RGB; a label map has one channel"):
        _ = open_dataset("camvid", tmp_path).frames[0].camera.labels


def test_palette_labels_give_their_indices(tmp_path: Path) -> None:
    make_camvid(tmp_path, ("0016E5_1",), "val")
    image = Image.fromarray(np.array([[3, 10, 11]], np.uint8))
    image.putpalette([200, 100, 0] * 256)
    image.save(tmp_path / "valannot/0016E5_1.png")
    assert open_dataset("camvid", tmp_path).frames[0].camera.labels.tolist() == [[3, 10, 11]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acdc", "acdc needs its folder: --data acdc=DIR"),
        ("acdc=", "acdc needs its folder"),
        ("camvidd=x", "unknown data set 'camvidd'; closest: camvid"),
        ("synthetic=x", "synthetic is embedded and takes no folder"),
    ],
)
def test_data_arguments_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_source(text)


def test_data_arguments(tmp_path: Path) -> None:
    assert parse_source(f"acdc={tmp_path}") == ("acdc", tmp_path)
    assert parse_source("camvid=a=b") == ("camvid", Path("a=b"))
    assert parse_source("synthetic") == ("synthetic", None)


@pytest.mark.real
@pytest.mark.skipif(not CAMVID_REAL.is_dir(), reason="../shared/real/camvid is not there")
def test_real_camvid() -> None:
    # counts from ../shared/real/README.md
    val, train = open_dataset("camvid", CAMVID_REAL), open_dataset("camvid", CAMVID_REAL, "train")
    assert Counter(frame.group for frame in val.frames) == {"day": 101, "dusk": 62}
    assert Counter(frame.scene for frame in train.frames) == {"0001TP": 62, "0006R0": 101, "0016E5": 204}
    training, held = training_split(train)
    assert (len(training), len(held)) == (259, 46)  # 15 % of 101 is 15.15, of 204 30.6
    assert not {frame.id for frame in training + held} & {frame.id for frame in val.frames}
    assert all(frame.camera.image.shape == (360, 480, 3) for frame in val.frames[::20])
    assert all(set(np.unique(frame.camera.labels)) <= set(range(12)) for frame in val.frames[::20])
    greys = {
        scene: np.mean([frame.camera.image.mean() for frame in train.frames if frame.scene == scene][::20])
        for scene in ("0001TP", "0006R0", "0016E5")
    }
    assert greys["0001TP"] < 75  # the README gives 60 for dusk and 108 to 137 for the day sequences
    assert min(greys["0006R0"], greys["0016E5"]) > 95
