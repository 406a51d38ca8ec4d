"""The range-image vision transformer: picture and features against LIP-Loc's rules, followed point by point."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_points import lidar_folder
from test_range_image import CLASSES, KITTI_AXES, sweep

import zoo
from zoo._torchvision import import_timm
from zoo.cli import main
from zoo.encoders.range_vit import RangeViT
from zoo.errors import InputError
from zoo.folder.catalogue import entries
from zoo.folder.model_folder import ModelFolder
from zoo.frame import Sweep
from zoo.inputs.range_image import RangeImageInput
from zoo.inputs.range_projection import Projection

TINY = {"embed_dim": 48, "depth": 2, "num_heads": 3, "img_size": 64}
ARGUMENTS: dict[str, Any] = {"size": [64, 64], "options": TINY}
PROJECTION = Projection(rows=64, columns=900, fov_deg=(-25.0, 3.0))


def dense_sweep(count: int = 40_000) -> np.ndarray:
    """As `sweep`, half of it ahead, where the picture is, and with points at zero elevation beyond 50 m."""
    points = sweep(count, seed=3)
    points[::2, 0] = np.abs(points[::2, 0])
    return points


def lip_loc_picture(points: np.ndarray) -> np.ndarray:
    """`(32, 300)` uint8: the steps of LIP-Loc's preparation, with a loop over the points.

    Points at 50 m or farther away are dropped, then the nearest of a pixel wins. The byte of an empty pixel is that of
    -1 times 5.1, cut to -5, which wraps around to 251.
    """
    image = np.full((64, 900), -1.0, np.float32)
    for x, y, z, _ in points.astype(float):
        depth = math.sqrt(x * x + y * y + z * z)
        if not 0 < depth < 50:
            continue
        column = min(max(math.floor(900 * 0.5 * (1 - math.atan2(y, x) / math.pi)), 0), 899)
        row = min(max(math.floor(64 * (1 - (math.degrees(math.asin(z / depth)) + 25) / 28)), 0), 63)
        if image[row, column] < 0 or depth < image[row, column]:
            image[row, column] = depth
    steps = (image * 5.1).astype(np.int64) & 0xFF
    return steps.astype(np.uint8)[0:32, 300:600]


def stretched(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with half-pixel centres and no antialiasing, the usual resize of images."""
    rows, columns = picture.shape
    out = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * rows / height - 0.5, 0), rows - 1)
            x = min(max((j + 0.5) * columns / width - 0.5, 0), columns - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            v, u = y - top, x - left
            upper = picture[top, left] * (1 - u) + picture[top, right] * u
            lower = picture[bottom, left] * (1 - u) + picture[bottom, right] * u
            out[i, j] = upper * (1 - v) + lower * v
    return out


def tensors(points: np.ndarray) -> tuple[torch.Tensor, ...]:
    arrays = RangeImageInput(projection=PROJECTION).together([RangeImageInput(projection=PROJECTION).prepare(points)])
    return tuple(torch.from_numpy(arrays[name]) for name in ("image", "points", "pixel"))


def test_the_picture_is_that_of_lip_loc() -> None:
    """The encoder gets the input's normalised range image and makes the same bytes of it, up to rounding of float32."""
    points = dense_sweep()
    expected = lip_loc_picture(points)
    assert {251} < set(expected.ravel().tolist())
    whole = RangeViT(size=(32, 304), crop_columns=(298, 602), options={**TINY, "patch_size": 16})
    with torch.no_grad():
        found = whole.picture(tensors(points)[0])[0].double().numpy()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    bytes_of = (found * std[:, None, None] + mean[:, None, None]) * 255
    assert np.abs(bytes_of[0] - bytes_of[2]).max() < 1e-3
    difference = np.abs(bytes_of[1][:, 2:302] - expected)
    assert (difference < 1e-2).mean() > 0.999  # a distance on the border of two steps may fall to either side
    assert difference.max() < 1.01


def test_features_equal_those_of_timm_on_that_picture() -> None:
    torch.manual_seed(0)
    timm = import_timm()
    ours = RangeViT(size=(64, 64), options=TINY).eval()
    theirs = timm.create_model("vit_small_patch16_224", num_classes=0, **TINY).eval()
    with torch.no_grad():
        torch.nn.init.normal_(theirs.pos_embed)
        torch.nn.init.normal_(theirs.cls_token)
        ours.vit.class_token.copy_(theirs.cls_token)
        ours.vit.position_embedding.copy_(theirs.pos_embed)
    ours.vit.projection.load_state_dict(theirs.patch_embed.proj.state_dict())
    ours.vit.blocks.load_state_dict(theirs.blocks.state_dict())
    ours.vit.norm.load_state_dict(theirs.norm.state_dict())
    points = dense_sweep(6000)
    grey = stretched(lip_loc_picture(points), 64, 64) / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    picture = torch.from_numpy((grey - mean[:, None, None]) / std[:, None, None]).float()[None]
    with torch.no_grad():
        tokens = theirs.forward_features(picture)[0]  # (1 + 16, 48)
        (found,) = ours(*tensors(points))
        pooled = ours.forward_pooled(*tensors(points))
        patches = ours.forward_patches(tensors(points)[0])
    assert torch.allclose(pooled[0], tokens[0], atol=2e-3)  # steps that fall to the other side move a few pixels
    assert torch.allclose(patches[0].flatten(1).T, tokens[1:], atol=2e-3)
    outside = 0
    for row, (x, y, z, _) in zip(found, points.astype(float), strict=True):
        column = math.floor(900 * 0.5 * (1 - math.atan2(y, x) / math.pi)) % 900
        elevation = math.degrees(math.asin(z / math.sqrt(x * x + y * y + z * z)))
        line = min(max(math.floor(64 * (1 - (elevation + 25) / 28)), 0), 63)
        if line >= 32 or not 300 <= column < 600:
            assert not row[:48].any()
            outside += 1
            continue
        # 32 rows are 4 patches of 8, 300 columns are 4 of 75.
        torch.testing.assert_close(row[:48], patches[0, :, line // 8, (column - 300) // 75])
    assert 1000 < outside < 5500
    torch.testing.assert_close(found[:, 48:], tensors(points)[1])


def test_what_lies_far_away_is_empty() -> None:
    """A wall at 49.9 m has step 254, at 50 m it is as empty as nothing at all: 251."""
    net = RangeViT(size=(32, 32), options={**TINY, "img_size": 32})
    values = []
    for distance in (49.9, 50.0, 80.0):
        azimuth = np.radians(np.linspace(-70, 70, 4000))
        flat = np.column_stack([np.cos(azimuth), np.sin(azimuth), np.zeros(4000), np.full(4000, 50)]) * distance
        with torch.no_grad():
            picture = net.picture(tensors(flat.astype(np.float32))[0])[0, 0] * 0.229 + 0.485
        values.append(set(np.round(picture.numpy() * 255).astype(int).ravel().tolist()))
    assert 254 in values[0]
    assert values[1] == values[2] == {251}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": ("x", "y")}, "features x, y lack range"),
        ({"crop_rows": (0, 65)}, "crop_rows 0 to 65 do not lie in an image of 64 rows"),
        ({"crop_columns": (600, 300)}, "crop_columns 600 to 300"),
        ({"size": (64, 60)}, "size 64 x 60 is not a multiple of the patch size 16"),
        ({"model": "resnet18", "options": None}, "not a plain vision transformer"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RangeViT(**{"options": TINY, **arguments})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFolder]:
    """`zoo export` of a bare encoder and of one with a pointwise head, random weights."""
    root = tmp_path_factory.mktemp("rangevit")
    encoder = {"class": "zoo.encoders.range_vit:RangeViT", "arguments": ARGUMENTS}
    section = {"kind": "range_image", "projection": PROJECTION.to_json()}
    section["sensor"] = {"forward": "+x", "left": "+y", "up": "+z", "intensity_scale": "0-1"}
    lidar_folder(root / "features", architecture={"encoder": encoder}, inputs=[section])
    lidar_folder(
        root / "labels",
        architecture={"encoder": encoder, "head": {"class": "zoo.heads.pointwise:PointwiseHead"}},
        task="segmentation3d",
        output={"classes": CLASSES.to_json()},
        inputs=[section],
    )
    for name in ("features", "labels"):
        assert main(["export", str(root / name), "--out", str(root / f"{name}-out")]) == 0
    return {name: ModelFolder.open(root / f"{name}-out") for name in ("features", "labels")}


@pytest.mark.parametrize("name", ["features", "labels"])
def test_exported_files_take_any_number_of_points(exported: dict[str, ModelFolder], name: str) -> None:
    folder = exported[name]
    (row,) = json.loads((folder.path / "parity.json").read_text())["rows"]
    assert row["passed"]
    assert [part["shape"][0] for part in row["other_shapes"]] == [2]
    shapes = [tensor["shape"] for tensor in folder.artefact("onnx")["inputs"]]
    assert shapes == [[None, 6, 64, 900], [None, 6], [None]]
    module, file = zoo.load(folder.path, engine="torch"), zoo.load(folder.path, engine="onnx")
    for count in (1, 777):
        source = Sweep(points_source=dense_sweep()[:count], sensor=KITTI_AXES)
        expected, found = module(source), file(source)
        if name == "labels":
            assert found.labels.tolist() == expected.labels.tolist()
            assert found.scores == pytest.approx(expected.scores, abs=1e-5)
        else:
            assert found.levels[0].shape == (count, 54)
            np.testing.assert_allclose(found.levels[0], expected.levels[0], atol=1e-4)


def test_the_catalogue_has_lip_locs_numbers(tmp_path: Path) -> None:
    entry = entries()["lip-loc-rangevit-s-kitti"]
    assert not entry.released
    assert entry.inputs[0]["projection"] == {"rows": 64, "columns": 900, "by": "fov", "fov_deg": [-25.0, 3.0]}
    with torch.device("meta"):
        model = zoo.create("lip-loc-rangevit-s-kitti")
    assert model.out_channels == (384 + 6,)
    with pytest.raises(InputError, match="lip-loc-rangevit-s-kitti"):
        zoo.load("lip-loc-rangevit-s-kitti")
