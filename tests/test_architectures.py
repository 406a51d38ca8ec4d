"""Encoders and heads: a contract for every catalogued model, and parts against independent references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tolerances import assert_close

import zoo
from zoo._torchvision import import_timm
from zoo.encoders.convnet import ConvNet
from zoo.encoders.vit import ViT
from zoo.errors import InputError
from zoo.folder.architecture import EncoderHead, build
from zoo.folder.catalogue import entries
from zoo.heads.fpn import FPNHead
from zoo.heads.linear import LinearHead
from zoo.heads.mask_transformer import MaskTransformer

IMAGE_MODELS = [name for name, entry in entries().items() if entry.modality == "camera"]
TINY_VIT = {"embed_dim": 48, "depth": 3, "num_heads": 3, "img_size": 64}


def formula_image(batch: int, height: int, width: int) -> torch.Tensor:
    """An image from a formula: `(B, 3, H, W)`, about zero mean."""
    values = torch.arange(batch * 3 * height * width, dtype=torch.float32)
    return torch.sin(values * 0.37).reshape(batch, 3, height, width)


@pytest.fixture(scope="module", params=IMAGE_MODELS)
def created(request: pytest.FixtureRequest) -> tuple[str, torch.nn.Module]:
    torch.manual_seed(0)
    return request.param, zoo.create(request.param).eval()


def test_catalogue_states_the_number_of_parameters(created: tuple[str, torch.nn.Module]) -> None:
    name, model = created
    assert sum(p.numel() for p in model.parameters()) == entries()[name].parameters


def test_features_have_the_declared_channels_and_strides(created: tuple[str, torch.nn.Module]) -> None:
    _, model = created
    encoder = model.encoder if isinstance(model, EncoderHead) else model
    for height, width in ((64, 96), (96, 32)):
        with torch.no_grad():
            levels = encoder.forward_features(formula_image(2, height, width))
        expected = [(2, c, height // s, width // s) for c, s in zip(encoder.out_channels, encoder.strides, strict=True)]
        assert [tuple(level.shape) for level in levels] == expected


def test_batch_order_does_not_matter(created: tuple[str, torch.nn.Module]) -> None:
    _, model = created
    image = formula_image(3, 64, 64)
    with torch.no_grad():
        together, turned = model(image), model(image.flip(0))
    pairs = zip(together, turned, strict=True) if isinstance(together, list) else [(together, turned)]
    for one, other in pairs:
        assert_close(one, other.flip(0))


def test_every_parameter_gets_a_gradient(created: tuple[str, torch.nn.Module]) -> None:
    _, model = created
    model.zero_grad()
    output = model(formula_image(2, 64, 64))
    total = sum((level * torch.linspace(-1, 1, level.numel()).reshape(level.shape)).sum() for level in output)
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


def test_bfloat16_stays_close(created: tuple[str, torch.nn.Module]) -> None:
    _, model = created
    image = formula_image(1, 64, 64)
    with torch.no_grad():
        exact = model(image)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(image)
    exact, rough = (output[-1] if isinstance(output, list) else output for output in (exact, rough))
    error = (exact - rough.float()).norm() / exact.norm()
    assert error < 0.05  # 8 bits of mantissa over tens of layers


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
    first, last = encoder.forward_intermediates(image, (0, -1))
    assert first.shape == last.shape == (1, 48, 2, 4)
    assert torch.equal(last, encoder.forward_features(image)[0])
    with pytest.raises(InputError, match="has 3"):
        encoder.forward_intermediates(image, (3,))
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


def test_missing_pretrained_weights_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"weights of timm.s resnet18\.a1_in1k could not be downloaded"):
        ConvNet(model="resnet18.a1_in1k", pretrained=True)
