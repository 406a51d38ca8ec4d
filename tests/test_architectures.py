"""Encoders and heads: a contract for every catalogued model, and parts against independent references."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import assert_close

import zoo
from zoo._torchvision import import_timm
from zoo.encoders import GRID, POINTS
from zoo.encoders.convnet import ConvNet
from zoo.encoders.minkunet import VARIANTS, MinkUNet
from zoo.encoders.range_unet import RangeUNet
from zoo.encoders.range_vit import RangeViT
from zoo.encoders.vit import ViT
from zoo.engines import EngineSpec, TensorSpec
from zoo.errors import InputError
from zoo.folder.architecture import EncoderHead, build
from zoo.folder.catalogue import entries
from zoo.folder.schema import schema
from zoo.heads.fpn import FPNHead
from zoo.heads.linear import LinearHead
from zoo.heads.mask_transformer import MaskTransformer
from zoo.inputs import input_from_json

TINY_VIT = {"embed_dim": 48, "depth": 3, "num_heads": 3, "img_size": 64}


def formula_image(batch: int, height: int, width: int) -> torch.Tensor:
    """An image from a formula: `(B, 3, H, W)`, about zero mean."""
    values = torch.arange(batch * 3 * height * width, dtype=torch.float32)
    return torch.sin(values * 0.37).reshape(batch, 3, height, width)


class Images:
    """Samples of an encoder that takes images; `size` counts multiples of what the encoder needs."""

    names = ("image",)
    axes = GRID
    sizes = (((3, 5), (3, 5), (3, 5)), ((5, 1), (5, 1)), ((1, 1),))

    def __init__(self, inputs: Sequence[TensorSpec]) -> None:
        (self.image,) = inputs

    def sample(self, seed: int, size: tuple[int, int]) -> torch.Tensor:
        """`(channels, H, W)`."""
        channels = self.image.shape[1]
        assert channels is not None
        height, width = (count * multiple for count, multiple in zip(size, self.image.multiples[2:], strict=True))
        return formula_image(1 + seed, height, width)[seed, :channels]

    def inputs(self, samples: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The samples as one batch."""
        return (torch.stack(tuple(samples)),)

    def shape(self, samples: Sequence[torch.Tensor], channels: int, stride: int) -> tuple[int, ...]:
        """Of a level for these samples."""
        height, width = samples[0].shape[-2:]
        return len(samples), channels, height // stride, width // stride

    def split(self, level: torch.Tensor, samples: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The part of each sample."""
        return list(level)


class Clouds:
    """Samples of an encoder that takes points; `size` is the number of points."""

    names = ("points", "batch_index")
    axes = POINTS
    sizes = ((157, 0, 41), (1, 33), (1,))

    def __init__(self, inputs: Sequence[TensorSpec]) -> None:
        self.columns = inputs[0].columns
        assert inputs[0].shape == (None, len(self.columns))

    def sample(self, seed: int, size: int) -> torch.Tensor:
        """`(size, columns)`: dense enough that voxels have neighbours, on both sides of 0."""
        generator = torch.Generator().manual_seed(seed)
        xyz = torch.randn(size, 3, generator=generator) * torch.tensor([0.5, 0.5, 0.2])
        return torch.cat([xyz, torch.rand(size, len(self.columns) - 3, generator=generator)], 1)

    def inputs(self, samples: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        lengths = torch.tensor([len(sample) for sample in samples])
        return torch.cat(tuple(samples)), torch.arange(len(samples)).repeat_interleave(lengths)

    def shape(self, samples: Sequence[torch.Tensor], channels: int, stride: int) -> tuple[int, ...]:
        return sum(map(len, samples)), channels

    def split(self, level: torch.Tensor, samples: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return list(level.split([len(sample) for sample in samples]))


class RangeImages:
    """Samples of an encoder that takes range images and the points in them; `size` is the number of points."""

    names = ("image", "points", "pixel")
    axes = POINTS
    sizes = ((157, 1, 41), (1, 33), (1,))

    def __init__(self, inputs: Sequence[TensorSpec]) -> None:
        image, points, pixel = inputs
        _, self.planes, self.rows, self.columns = image.shape
        assert points.shape == (None, len(points.columns))
        assert pixel.dtype == "int64"

    def sample(self, seed: int, size: int) -> tuple[torch.Tensor, ...]:
        """`(planes, rows, columns)`, `(size, planes)` and `(size,)`."""
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(self.planes, self.rows, self.columns, generator=generator)
        pixel = torch.randint(self.rows * self.columns, (size,), generator=generator)
        return image, torch.randn(size, self.planes, generator=generator), pixel

    def inputs(self, samples: Sequence[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
        images, points, pixels = zip(*samples, strict=True)
        offsets = [pixel + i * self.rows * self.columns for i, pixel in enumerate(pixels)]
        return torch.stack(images), torch.cat(points), torch.cat(offsets)

    def shape(self, samples: Sequence[tuple[torch.Tensor, ...]], channels: int, stride: int) -> tuple[int, ...]:
        return sum(len(pixel) for _, _, pixel in samples), channels

    def split(self, level: torch.Tensor, samples: Sequence[tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
        return list(level.split([len(pixel) for _, _, pixel in samples]))


KINDS = {kind.names: kind for kind in (Images, Clouds, RangeImages)}
SMALL_MINKUNET = {"layers": (1,) * 8, "width": 8}
FORMS: dict[str, Callable[[], torch.nn.Module]] = {
    "convnext": lambda: ConvNet(model="convnext_atto", levels=(0, 3)),
    "minkunet, SLidR's form": lambda: MinkUNet(**{**VARIANTS["minkunet34-slidr"], **SMALL_MINKUNET}),
    "minkunet without decoder": lambda: MinkUNet(**SMALL_MINKUNET, decoder=False, reduce="mean"),
    "range U-Net with another convnet": lambda: RangeUNet(
        features=("range", "ring"), rows=32, columns=64, model="mobilenetv3_small_050", levels=(0, 1, 2, 3, 4), width=16
    ),
    "range ViT that sees the whole image": lambda: RangeViT(
        features=("intensity", "range"),
        rows=16,
        columns=64,
        crop_rows=(0, 16),
        crop_columns=(0, 64),
        size=(32, 64),
        options=TINY_VIT,
    ),
    "minkunet with rings": lambda: MinkUNet(
        **SMALL_MINKUNET, channels=("ring", "z"), point_channels=("x", "y", "z", "intensity", "ring")
    ),
}
"""Forms of encoders that no model of the catalogue has."""


class Case:
    """A model with untrained weights, its encoder, and samples for it."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.name = name
        self.model: Any = (FORMS[name]() if name in FORMS else zoo.create(name)).eval()
        for parameter in self.model.parameters():
            if not parameter.any():  # such as timm's last norm of a residual block, which hides what lies before it
                torch.nn.init.constant_(parameter, 0.1)
        self.encoder: Any = self.model.encoder if isinstance(self.model, EncoderHead) else self.model
        self.kind = KINDS[tuple(tensor.name for tensor in self.encoder.inputs)](self.encoder.inputs)

    def samples(self, sizes: Sequence[Any]) -> list[Any]:
        return [self.kind.sample(seed, size) for seed, size in enumerate(sizes)]

    def outputs(self, samples: Sequence[Any]) -> list[torch.Tensor]:
        """What the model gives, as a list, without gradients."""
        with torch.no_grad():
            return as_list(self.model(*self.kind.inputs(samples)))


def as_list(output: Any) -> list[torch.Tensor]:
    return [output] if isinstance(output, torch.Tensor) else output


@pytest.fixture(scope="module", params=[*entries(), *FORMS])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_every_encoder_that_a_configuration_can_name_is_here() -> None:
    branches = schema("config").document["$defs"]
    encoders = branches["architecture"]["properties"]["encoder"]["oneOf"]
    named = {branches[branch["$ref"].split("/")[-1]]["properties"]["class"]["const"] for branch in encoders}
    assert named == {entry.architecture["encoder"]["class"] for entry in entries().values()}


def test_catalogue_states_the_number_of_parameters(case: Case) -> None:
    if case.name in entries():
        assert sum(p.numel() for p in case.model.parameters()) == entries()[case.name].parameters


def test_inputs_of_the_catalogue_feed_the_encoder(case: Case) -> None:
    if case.name in entries():
        (section,) = entries()[case.name].inputs
        spec = EngineSpec("torch", "cpu", "fp32", tuple(case.model.inputs), ())
        input_from_json(section).check(spec, (), case.name)


def test_features_have_the_declared_channels_and_strides(case: Case) -> None:
    encoder = case.encoder
    assert encoder.axes == case.kind.axes
    for sizes in case.kind.sizes:
        samples = case.samples(sizes)
        with torch.no_grad():
            levels = encoder.forward_features(*case.kind.inputs(samples))
            same = encoder(*case.kind.inputs(samples))
        declared = zip(encoder.out_channels, encoder.strides, strict=True)
        assert [tuple(level.shape) for level in levels] == [case.kind.shape(samples, *level) for level in declared]
        assert isinstance(levels, list)
        assert all(torch.equal(one, other) for one, other in zip(levels, same, strict=True))


def test_intermediates_by_number(case: Case) -> None:
    inputs = case.kind.inputs(case.samples(case.kind.sizes[0]))
    with torch.no_grad():
        features = case.encoder.forward_features(*inputs)
        default = case.encoder.forward_intermediates(*inputs)
        first, last = case.encoder.forward_intermediates(*inputs, indices=(0, -1))
    assert all(torch.equal(one, other) for one, other in zip(features, default, strict=True))
    assert torch.equal(last, features[-1])
    assert first.ndim == len(case.encoder.axes)
    for wrong in (99, -99):
        with pytest.raises(InputError, match=rf"\({wrong},\) are out of range; the encoder has \d+, counted from 0"):
            case.encoder.forward_intermediates(*inputs, indices=(wrong,))


def test_samples_of_a_batch_do_not_touch_each_other(case: Case) -> None:
    samples = case.samples(case.kind.sizes[0])
    together, turned = case.outputs(samples), case.outputs(samples[::-1])
    alone = [case.outputs([sample]) for sample in samples]
    for level, (one, other) in enumerate(zip(together, turned, strict=True)):
        parts = case.kind.split(one, samples)
        for i, mirrored in enumerate(case.kind.split(other, samples[::-1])[::-1]):
            assert_close(parts[i], mirrored)
            (single,) = case.kind.split(alone[i][level], samples[i : i + 1])
            assert_close(parts[i], single)


def test_every_parameter_gets_a_gradient(case: Case) -> None:
    case.model.zero_grad()
    output = as_list(case.model(*case.kind.inputs(case.samples(case.kind.sizes[0]))))
    total = sum((level * torch.linspace(-1, 1, level.numel()).reshape(level.shape)).sum() for level in output)
    assert isinstance(total, torch.Tensor)
    total.backward()
    grads = {name: p.grad for name, p in case.model.named_parameters()}
    assert [name for name, g in grads.items() if g is None or not g.isfinite().all() or not g.any()] == []
    case.model.zero_grad()


@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_stays_close(case: Case, dtype: torch.dtype, limit: float) -> None:
    samples = case.samples(case.kind.sizes[0][:1])
    exact = case.outputs(samples)[-1]
    with torch.autocast("cpu", dtype):
        rough = case.outputs(samples)[-1]
    error = (exact - rough.float()).norm() / exact.norm()
    assert math.isfinite(error)
    assert error < limit  # 8 or 11 bits of mantissa over tens of layers


def test_vit_equals_timm_at_its_own_size() -> None:
    timm = import_timm()
    torch.manual_seed(1)
    for options in ({}, {"reg_tokens": 4, "no_embed_class": True}):
        ours = ViT(model="vit_small_patch16_224", options={**TINY_VIT, **options}).eval()
        theirs = timm.create_model("vit_small_patch16_224", num_classes=0, **TINY_VIT, **options).eval()
        torch.nn.init.normal_(theirs.pos_embed)
        torch.nn.init.normal_(theirs.cls_token)
        mapping = {
            "class_token": theirs.cls_token,
            "register_tokens": theirs.reg_token,
            "position_embedding": theirs.pos_embed,
        }
        for name, value in mapping.items():
            if value is not None:
                getattr(ours, name).data.copy_(value)
        ours.projection.load_state_dict(theirs.patch_embed.proj.state_dict())
        ours.blocks.load_state_dict(theirs.blocks.state_dict())
        ours.norm.load_state_dict(theirs.norm.state_dict())
        image = formula_image(2, 64, 64)
        with torch.no_grad():
            expected = theirs.forward_features(image)[:, theirs.num_prefix_tokens :]
            (found,) = ours.forward_features(image)
            assert_close(ours.forward_pooled(image), theirs.forward_features(image)[:, 0])
        assert_close(found.flatten(2).transpose(1, 2), expected)


def test_position_embedding_is_resized_linearly_without_antialiasing() -> None:
    # Grid of 4 x 4; to 2 x 2 the half-pixel centres fall between cells 0|1 and 2|3: each value is the plain mean of
    # four cells. Antialiasing would mix in the outer cells, cubic weights would be negative there.
    encoder = ViT(model="vit_small_patch16_224", options=TINY_VIT)
    grid = torch.arange(16, dtype=torch.float32).reshape(1, 16, 1).expand(1, 16, 48)
    encoder.position_embedding.data[:, 1:] = grid
    found = encoder.positions(2, 2)[0, 1:, 0]
    # rows 0,1 and columns 0,1: (0 + 1 + 4 + 5) / 4 = 2.5, and so on
    assert found.tolist() == pytest.approx([2.5, 4.5, 10.5, 12.5])


def test_vit_gives_intermediate_blocks_and_refuses_others() -> None:
    encoder = ViT(model="vit_small_patch16_224", options=TINY_VIT).eval()
    image = formula_image(1, 32, 64)
    first, last = encoder.forward_intermediates(image, indices=(0, -1))
    assert first.shape == last.shape == (1, 48, 2, 4)
    assert torch.equal(last, encoder.forward_features(image)[0])
    with pytest.raises(InputError, match="has 3"):
        encoder.forward_intermediates(image, indices=(3,))
    with pytest.raises(InputError, match="33 x 64 is not a multiple of the patch size 16"):
        encoder(formula_image(1, 33, 64))


def test_mask_transformer_is_a_scalar_product_of_unit_vectors() -> None:
    # Without layers the head is: input map, norm, projections, cosine, norm over classes. Redone here in NumPy.
    torch.manual_seed(2)
    head = MaskTransformer(in_channels=(12,), strides=(16,), num_classes=5, embed_dim=12, depth=0, num_heads=3).eval()
    features = torch.randn(1, 12, 2, 3)
    with torch.no_grad():
        found = head([features])[0].numpy()  # (5, 2, 3)
    parameters = {name: value.detach().double().numpy() for name, value in head.named_parameters()}

    def layer_norm(values: np.ndarray, name: str) -> np.ndarray:
        centred = values - values.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * parameters[f"{name}.weight"] + parameters[f"{name}.bias"]

    patches = features[0].double().numpy().reshape(12, 6).T @ parameters["input.weight"].T + parameters["input.bias"]
    patches = layer_norm(patches, "norm") @ parameters["patch_projection"]
    classes = layer_norm(parameters["class_embedding"][0], "norm") @ parameters["class_projection"]
    cosine = (patches / np.linalg.norm(patches, axis=1, keepdims=True)) @ (
        classes / np.linalg.norm(classes, axis=1, keepdims=True)
    ).T
    assert_close(found.reshape(5, 6).T, layer_norm(cosine, "mask_norm"))


def test_heads_are_built_from_channels_and_strides() -> None:
    levels = [torch.randn(1, 8, 16, 24), torch.randn(1, 16, 8, 12), torch.randn(1, 32, 4, 6)]
    arguments = {"in_channels": (8, 16, 32), "strides": (4, 8, 16), "num_classes": 7}
    for head, stride in (
        (LinearHead(**arguments), 16),
        (MaskTransformer(**arguments, num_heads=4), 16),
        (FPNHead(**arguments, width=12), 4),
        (FPNHead(**arguments, width=(4, 12, 20)), 4),
    ):
        assert head.stride == stride
        assert head.eval()(levels).shape == (1, 7, 64 // stride, 96 // stride)


@pytest.mark.parametrize(
    ("name", "levels"),
    [("resnet18", (1, 2, 3, 4)), ("convnext_atto", (0, 1, 2, 3)), ("mobilenetv3_small_050", (1, 2, 3, 4))],
)
def test_convnets_by_name(name: str, levels: tuple[int, ...]) -> None:
    encoder = ConvNet(model=name, levels=levels).eval()
    with torch.no_grad():
        found = encoder(formula_image(1, 64, 96))
    assert [tuple(level.shape) for level in found] == [
        (1, c, 64 // s, 96 // s) for c, s in zip(encoder.out_channels, encoder.strides, strict=True)
    ]


def test_wrong_architectures_are_refused() -> None:
    with pytest.raises(InputError, match=r"width \[4, 12\] has 2 numbers, but the encoder has 3 levels"):
        FPNHead(in_channels=(8, 16, 32), strides=(4, 8, 16), num_classes=7, width=(4, 12))

    def architecture(reference: str, **arguments: object) -> dict[str, object]:
        return {"encoder": {"class": reference, "arguments": arguments}}

    with pytest.raises(InputError, match="closest: resnet18"):
        build(architecture("zoo.encoders.convnet:ConvNet", model="resnet_18"), None)
    with pytest.raises(
        InputError, match=r"encoder\.class is 'os:system'; expected one of zoo\.encoders\.convnet:ConvNet"
    ):
        build(architecture("os:system", command="true"), None)
    with pytest.raises(InputError, match=r"closest: zoo\.encoders\.vit:ViT"):
        build(architecture("zoo.encoders.vit:Vit"), None)
    with pytest.raises(InputError, match=r"options has the unknown key 'depht'; closest: depth"):
        build(architecture("zoo.encoders.vit:ViT", options={"depht": 3}), None)
    with pytest.raises(InputError, match="not a plain vision transformer"):
        build(architecture("zoo.encoders.vit:ViT", model="resnet18"), None)
    with pytest.raises(InputError, match="embed_dim 12 is not a multiple of num_heads 5"):
        MaskTransformer(in_channels=(12,), strides=(16,), num_classes=5, num_heads=5)


class PointHead(torch.nn.Linear):
    """A score per class for each point."""

    axes = POINTS
    stride = 1

    def forward(self, levels: list[torch.Tensor]) -> torch.Tensor:
        return super().forward(levels[0])


def test_an_encoder_of_points_takes_a_head_as_one_of_images_does() -> None:
    encoder = MinkUNet(**SMALL_MINKUNET)
    model = EncoderHead(encoder, PointHead(encoder.out_channels[0], 5)).eval()
    assert [tensor.name for tensor in model.inputs] == ["points", "batch_index"]
    assert model.strides == (1,)
    kind = Clouds(model.inputs)
    inputs = kind.inputs([kind.sample(0, 30), kind.sample(1, 7)])
    with torch.no_grad():
        (level,) = model.forward_features(*inputs)
        torch.testing.assert_close(model(*inputs), level @ model.head.weight.T + model.head.bias)
        (coarse,) = model.forward_intermediates(*inputs, indices=(3,))
    assert coarse.shape == (37, 64)


def test_a_head_for_other_levels_is_refused() -> None:
    lidar = {"class": "zoo.encoders.minkunet:MinkUNet", "arguments": {"layers": [1] * 8, "width": 4}}
    for head in ("linear:LinearHead", "fpn:FPNHead", "mask_transformer:MaskTransformer"):
        arguments = {"num_heads": 3} if head.startswith("mask") else {}
        described = {"encoder": lidar, "head": {"class": f"zoo.heads.{head}", "arguments": arguments}}
        expected = (
            rf"{head.split(':')[1]} takes levels \(batch, channels, height, width\), but MinkUNet gives \(points, "
        )
        with pytest.raises(InputError, match=expected):
            build(described, 5)


@pytest.mark.parametrize(
    ("name", "num_classes", "message"),
    [
        ("clcp-vit-s-a2d2", 7, "bare encoder without classes; omit num_classes"),
        ("supervised-resnet18w48-synthetic.fpn-camvid", 0, "num_classes 0: expected a whole number of at least 1"),
        ("supervised-resnet18w48-synthetic.fpn-camvid", "4", "num_classes '4': expected"),
    ],
)
def test_numbers_of_classes_that_a_model_cannot_have_are_an_error(name: str, num_classes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        zoo.create(name, num_classes=num_classes)


def test_pretrained_weights_of_an_encoder_that_has_none_are_an_error() -> None:
    expected = "MinkUNet has no pretrained weights to download; start from random weights or a model folder"
    with pytest.raises(InputError, match=expected):
        zoo.create("supervised-minkunet34-semantickitti", pretrained=True)


def test_arguments_of_the_sparse_encoder_are_checked() -> None:
    def described(**arguments: object) -> dict[str, object]:
        return {"encoder": {"class": "zoo.encoders.minkunet:MinkUNet", "arguments": arguments}}

    for arguments, message in (
        ({"layers": [1] * 7}, r"layers has 7"),
        ({"layers": [33] * 8}, r"layers\[0\] is 33"),
        ({"width": 0}, "width is 0"),
        ({"channels": ["reflectance"]}, r"channels\[0\] is 'reflectance'"),
        ({"point_channels": ["x", "y", "z", "z"]}, "point_channels"),
        ({"point_channels": ["intensity", "x", "y", "z"]}, "do not start with x, y, z"),
        ({"voxel_size": 0}, "voxel_size"),
        ({"voxel_size": [0.1, 1.0]}, "voxel_size"),
        ({"grid": "cylindrical"}, "three sizes"),
        ({"grid": "polar"}, "grid is 'polar'"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"backend": "spconv"}, "unknown key 'backend'"),
        ({"pretrained": True}, "unknown key 'pretrained'"),
    ):
        with pytest.raises(InputError, match=message):
            build(described(**arguments), None)


def test_missing_pretrained_weights_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"weights of timm.s resnet18\.a1_in1k could not be downloaded"):
        ConvNet(model="resnet18.a1_in1k", pretrained=True)
