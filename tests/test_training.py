"""The segmenter recipe: sample order, schedule, averages, exact resume, presets, real runs on made-up frames."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.cli import main
from zoo.data import open_dataset
from zoo.data.camvid import training_split
from zoo.data.terms import mark_synthetic
from zoo.errors import InputError
from zoo.folder.catalogue import entry
from zoo.folder.licences import weights_licence
from zoo.folder.model_folder import ModelFolder
from zoo.training.augment import Augmentation, distort, resize_crop_flip, sample_generator
from zoo.training.command import parse
from zoo.training.loop import WeightAverage, load_checkpoint, poly_factor
from zoo.training.publish import Facts, Start, describe
from zoo.training.samples import stream_order
from zoo.training.segmenter import Settings, dice_loss, train
from zoo.training.segmenter_parts import initial_model, read_training_data, split_training

CAMVID_MODEL = "supervised-resnet18w48-synthetic.fpn-camvid"


def test_poly_factor_by_hand() -> None:
    # thesis: base 1e-2, minimum 1e-4, so the factor ends at 0.01; half way (1 - 0.01) * 0.5 ** 0.9 + 0.01
    assert poly_factor(0, 80_000, power=0.9, minimum=0.01) == 1
    half = 0.99 * 0.535887 + 0.01  # 0.5 ** 0.9 to six decimals
    assert poly_factor(40_000, 80_000, power=0.9, minimum=0.01) == pytest.approx(
        half, abs=1e-6
    )  # 0.5 ** 0.9 has six decimals here
    assert poly_factor(80_000, 80_000, power=0.9, minimum=0.01) == pytest.approx(0.01)
    # warm-up of 4: 1/4, 2/4, 3/4, 1, then the decay begins
    assert [poly_factor(i, 10, power=1, warmup=4) for i in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 5 / 6])


def test_dice_loss_by_hand() -> None:
    # four pixels, two classes; probabilities of class 1: 0.75, 0.25, 0.5 and an ignored one; truth 1, 0, 0
    ones = torch.tensor([0.75, 0.25, 0.5, 0.9])
    logits = torch.stack([torch.log(1 - ones), torch.log(ones)])[None, :, None]
    labels = torch.tensor([[[1, 0, 0, 255]]])
    # class 0: overlap 0.75 + 0.5, sizes 0.25 + 0.75 + 0.5 = 1.5 and 2; class 1: overlap 0.75, sizes 1.5 and 1
    expected = ((1 - 2 * 1.25 / 3.5) + (1 - 2 * 0.75 / 2.5)) / 2
    assert float(dice_loss(logits, labels, 255)) == pytest.approx(expected)
    # a class that does not occur has no term; nothing that counts: 0
    assert float(dice_loss(logits, torch.tensor([[[0, 0, 0, 255]]]), 255)) == pytest.approx(1 - 2 * 1.5 / 4.5)
    assert float(dice_loss(logits, torch.full((1, 1, 4), 255), 255)) == 0


def test_weight_average_by_hand() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average = WeightAverage(model, decay=0.5)
    model.weight.data.fill_(1.0)
    average.update(model, step=1000)  # 0.5 * 0 + 0.5 * 1
    assert average.values["weight"].item() == 0.5
    average.update(model, step=0)  # early steps use (1 + 0) / (10 + 0): 0.1 * 0.5 + 0.9 * 1
    assert average.values["weight"].item() == pytest.approx(0.95)


def test_every_epoch_shows_every_frame_once_in_another_order() -> None:
    order = stream_order([7], [1.0], 21, seed=3)
    epochs = [order[i : i + 7, 2].tolist() for i in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert np.array_equal(order, stream_order([7], [1.0], 21, seed=3))
    assert not np.array_equal(order, stream_order([7], [1.0], 21, seed=4))


def test_mixture_follows_the_weights() -> None:
    order = stream_order([10, 1000], [3.0, 1.0], 20_000, seed=0)
    assert (order[:, 0] == 0).mean() == pytest.approx(0.75, abs=0.02)  # a few thousand draws
    for source, length in enumerate((10, 1000)):
        chosen = order[order[:, 0] == source][:, 2]
        whole_epochs = chosen[: len(chosen) // length * length].reshape(-1, length)
        assert all(len(set(epoch)) == length for epoch in whole_epochs)


def test_crops_keep_image_and_labels_together() -> None:
    # The image's red channel carries the label times 20, so each pixel says which label belongs to it. Bilinear
    # resizing mixes neighbours at edges, so most pixels, not all, must agree.
    labels = np.kron(np.arange(12, dtype=np.uint8).reshape(3, 4), np.ones((20, 20), np.uint8))
    image = np.repeat((labels * 20)[:, :, None], 3, axis=2)
    for index in range(20):
        generator = sample_generator(0, 0, index)
        out, truth = resize_crop_flip(image, labels, (48, 40), Augmentation(scale=(0.5, 2)), generator, 255)
        assert out.shape == (48, 40, 3)
        seen = truth != 255
        agree = np.abs(out[..., 0].astype(int) - truth.astype(int) * 20) <= 10
        assert seen.any()
        assert agree[seen].mean() > 0.85
    small = resize_crop_flip(image, labels, (200, 200), Augmentation(scale=(1, 1)), sample_generator(0, 0, 0), 255)
    assert (small[1] == 255).mean() > 0.5  # padded, and the padding does not count


def test_augmentation_is_a_function_of_its_generator() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    settings = Augmentation(photometric=1.0, low_light=0.5, degrade=0.5)
    results = [distort(image, settings, sample_generator(1, 0, index)) for index in (5, 5, 6)]
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])
    none = Augmentation(photometric=0.0, low_light=0.0, degrade=0.0)
    assert np.array_equal(distort(image, none, sample_generator(1, 0, 5)), image)
    half = Augmentation(photometric=1.0, distorted=0.5)
    left = sum(np.array_equal(distort(image, half, sample_generator(1, 0, i)), image) for i in range(200))
    assert 70 < left < 130  # four standard deviations of a fair coin


def test_thesis_preset_is_the_one_of_the_paper(tmp_path: Path) -> None:
    words = ["segmenter", "--preset", "thesis", "--model", "m", "--data", "cityscapes=x", "--out", str(tmp_path)]
    _, settings = parse(words)
    assert (settings.optimiser, settings.learning_rate, settings.minimum_learning_rate) == ("sgd", 1e-2, 1e-4)
    assert (settings.batch, settings.steps, settings.crop, settings.weight_decay) == (8, 80_000, (224, 224), 0.0)
    assert settings.init == "imagenet"
    _, changed = parse([*words, "--steps", "5", "--frozen-encoder"])
    assert (changed.steps, changed.frozen_encoder, changed.batch) == (5, True, 8)


@pytest.fixture(scope="module")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CamVid folder of made-up frames: a bright road below a dark sky, moved about; one dusk frame."""
    root = tmp_path_factory.mktemp("camvid")
    generator = np.random.default_rng(0)
    names = [f"0016E5_{i:05d}" for i in range(12)] + ["0001TP_000001"]
    for folder in ("train", "trainannot"):
        (root / folder).mkdir()
    for name in names:
        horizon = int(generator.integers(16, 48))
        labels = np.zeros((64, 96), np.uint8)
        labels[horizon:] = 3
        labels[0, 0] = 11
        image = np.where(labels[:, :, None] == 3, 200, 40) + generator.integers(-20, 20, (64, 96, 3))
        Image.fromarray(image.astype(np.uint8)).save(root / "train" / f"{name}.png")
        Image.fromarray(labels).save(root / "trainannot" / f"{name}.png")
    return root


def words(camvid: Path, out: Path, *more: object) -> list[str]:
    """A short run; an option in `more` takes the place of the one below."""
    options = {
        "--preset": ["cpu"], "--model": [CAMVID_MODEL], "--data": [f"camvid={camvid}"], "--out": [out], "--steps": [8],
        "--crop": [64, 96], "--batch": [4], "--warmup": [2], "--evaluate-every": [4], "--checkpoint-every": [2],
        "--workers": [0],
    }  # fmt: skip
    kept = [word for option, values in options.items() if option not in more for word in (option, *values)]
    return ["train", "segmenter", *map(str, (*kept, *more))]


def log_of(run: Path) -> list[dict[str, str]]:
    """Rows of `log.csv` without the time they took."""
    with (run / "log.csv").open() as handle:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(handle)]


def test_a_run_is_resumed_exactly_and_makes_a_loadable_folder(camvid: Path, tmp_path: Path) -> None:
    assert main(words(camvid, tmp_path / "whole")) == 0
    # Stopped by the clock after the first step, then finished.
    assert main(words(camvid, tmp_path / "parts", "--max-minutes", 1e-9)) == 2
    assert load_checkpoint(tmp_path / "parts" / "last.pt")["step"] == 1
    settings = json.loads((tmp_path / "parts" / "settings.json").read_text())
    del settings["dice"], settings["augmentation"]["distorted"]  # a run from before these settings were there
    (tmp_path / "parts" / "settings.json").write_text(json.dumps(settings))
    assert main(words(camvid, tmp_path / "parts", "--resume")) == 0
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "parts")]
    assert weights[0] == weights[1]
    # The running mean of the loss is state too: it does not start anew after a resume.
    logged = [log_of(tmp_path / run) for run in ("whole", "parts")]
    assert [row["step"] for row in logged[0]] == ["4", "8"]
    assert logged[0] == logged[1][1:]  # which has a row more, at the step where it was stopped
    assert float(logged[0][-1]["loss"]) == load_checkpoint(tmp_path / "parts" / "last.pt")["mean_loss"]
    folder = ModelFolder.open(tmp_path / "whole" / "model")
    folder.verify()
    provenance = folder.config["provenance"]
    assert provenance["training_frames"] == [10]  # 12 day frames less 15 %, rounded; the dusk frame is left out
    assert provenance["holdout_frames"] == 2
    assert [step for step, _ in provenance["holdout_miou"]] == [4, 8]
    assert json.loads((tmp_path / "whole" / "settings.json").read_text())["steps"] == 8
    image = np.full((64, 96, 3), 40, np.uint8)
    assert zoo.load(folder.path)(image).labels.shape == (64, 96)
    (recorded,) = provenance["trained_on"]
    assert (recorded["name"], recorded["frames"], recorded["held_back"]) == ("CamVid", 10, 2)
    assert recorded["scenes"] == {"0016E5": [[0.0, 0.3]]}  # frames 0 to 9 at 30 per second
    with pytest.raises(InputError, match="contains a finished run"):
        train(parse(words(camvid, tmp_path / "whole")[1:])[1])


def test_only_the_first_data_set_holds_frames_back(camvid: Path, tmp_path: Path) -> None:
    data = (f"camvid={camvid}",) * 2
    settings = Settings(model=CAMVID_MODEL, data=data, out=tmp_path, mixture=(0.75, 0.25), holdout=0.15)
    _, sources, holdout, used = read_training_data(settings)
    assert [len(source.frames) for source in sources] == [10, 12]
    assert len(holdout) == 2
    assert [each.held_back for each in used] == [2, 0]


def test_a_frozen_encoder_does_not_move_and_a_folder_is_a_start(camvid: Path, tmp_path: Path) -> None:
    assert main(words(camvid, tmp_path / "first", "--steps", 2)) == 0
    init = tmp_path / "first" / "model"
    more = ["--steps", 3, "--init", init, "--frozen-encoder", "--average-decay", 0]
    more += ["--precision", "bf16-mixed"]
    assert main(words(camvid, tmp_path / "second", *more)) == 0
    start, end = (zoo.load(path).module.state_dict() for path in (init, tmp_path / "second" / "model"))
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved
    assert all(name.startswith("head.") for name in moved)


def test_wrong_use(camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*more: object, base: list[str] | None = None) -> str:
        capsys.readouterr()
        assert main(base or words(camvid, tmp_path / "out", *more)) == 2
        return capsys.readouterr().err

    assert "closest: segmenter" in error(base=["train", "segmentr"])
    assert "--preset expects one of thesis, cpu, got 'gpu'" in error(
        "--preset", "gpu", base=["train", "segmenter", "--preset", "gpu"]
    )
    assert "--steps 0: expected at least 1" in error("--steps", 0)
    assert "expected KIND=DIR" in error("--data", "camvid")
    assert "unknown model" in error("--model", "nothing")
    assert "neither a name in the catalogue nor a folder" in error("--init", tmp_path / "nowhere")
    assert "not released" in error("--init", "clcp-vit-s-a2d2")


def test_held_back_frames_are_whole_scenes_at_the_end(tmp_path: Path) -> None:
    for scene, count in ((1, 4), (2, 3), (3, 3)):
        for number in range(count):
            stem = f"town_{scene:06d}_{number:06d}"
            for folder, suffix, mode in (("leftImg8bit", "leftImg8bit", "RGB"), ("gtFine", "gtFine_labelIds", "L")):
                path = tmp_path / folder / "train" / "town" / f"{stem}_{suffix}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new(mode, (4, 4)).save(path)
    dataset = open_dataset("cityscapes", tmp_path, "train")
    # 20 % of 10 frames is 2, but the last scene has 3, and a place is either trained on or decided with.
    training, held = split_training(dataset, 0.2)
    assert (len(training), len(held)) == (7, 3)
    assert {frame.scene for frame in held} == {"town_000003"}
    with pytest.raises(InputError, match="has a single scene"):
        split_training(dataclasses.replace(dataset, frames=dataset.frames[:4]), 0.5)
    assert split_training(dataset, 0.0) == (dataset.frames, ())


SYNTHETIC_MODEL = "supervised-resnet18w48-synthetic.fpn-synthetic"


def test_what_a_folder_says_comes_from_the_run(
    camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CamVid data under the synthetic entry: nothing of that entry's licence, data, classes or name is true of it."""
    monkeypatch.setattr(sys, "argv", ["zoo", "train"])  # the folder records the command
    out = tmp_path / "run"
    out.mkdir()
    (out / "settings.json").write_text("{}")  # left by a run that failed before its first checkpoint
    more = ["--model", SYNTHETIC_MODEL, "--steps", 1, "--warmup", 0, "--resume"]
    assert main(words(camvid, out, *more)) == 0
    assert f"no checkpoint to resume from in {out}" in capsys.readouterr().err
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["name"] == "random-resnet18.fpn-camvid"
    assert config["description"] == (
        "Street segmentation, 11 CamVid classes, trained from random weights on CamVid (train); research only"
    )
    assert len(config["output"]["classes"]["names"]) == 11
    assert config["output"]["classes"]["names"][:2] == ["sky", "building"]
    assert config["training_data"] == ["CamVid (train)"]
    assert config["licence"]["weights"] == "research-only"
    assert config["licence"]["CamVid"].startswith("research use only")
    assert config["licence"]["initial weights"] == "random"
    licence = (out / "model" / "LICENSE").read_text()
    assert "for research use only" in licence
    assert "Apache License" not in licence
    card = (out / "model" / "README.md").read_text()
    assert "license: other\nlicense_name: research-only" in card
    assert "- weights: research-only" in card
    for text in (licence, card, json.dumps({**config, "provenance": None})):
        assert "synthetic" not in text.replace(SYNTHETIC_MODEL, "")
    module = zoo.load(out / "model", engine="torch").module
    assert config["parameters"] == sum(parameter.numel() for parameter in module.parameters())


def test_a_catalogue_name_is_not_given_to_another_model(
    camvid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*more: object) -> str:
        capsys.readouterr()
        assert main(words(camvid, tmp_path / "out", *more)) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    # Random weights, where the entry's started on the synthetic world.
    assert "with different training data (this run's data: CamVid (train))" in error("--name", CAMVID_MODEL)
    message = error("--name", SYNTHETIC_MODEL)
    assert "with different classes and training data" in message
    assert "--name ../x: expected up to 100 letters" in error("--name", "../x")


def described(data: list[str], **more: object) -> Facts:
    settings = Settings(model=CAMVID_MODEL, data=tuple(data), out=Path("unused"), holdout=0.15, **more)  # type: ignore
    classes, _, _, used = read_training_data(settings)
    _, entry, start = initial_model(settings, classes)
    return describe(settings, entry, start, used, classes)


def test_the_chain_of_the_initial_weights_is_taken_over(camvid: Path) -> None:
    facts = described([f"camvid={camvid}"], init=SYNTHETIC_MODEL)
    assert facts.name == "finetuned-resnet18.fpn-camvid"
    assert facts.licence["weights"] == "research-only"
    assert facts.licence["initial weights"] == f"{SYNTHETIC_MODEL} (Apache-2.0), which started from random"
    assert facts.training_data == ("synthetic street world", "CamVid (train)")
    # With the entry's architecture, classes and data its name may be given, though it never is by default.
    assert described([f"camvid={camvid}"], init=SYNTHETIC_MODEL, name=CAMVID_MODEL).name == CAMVID_MODEL


def cityscapes_frames(root: Path, city: str, count: int = 10) -> Path:
    for number in range(count):
        stem = f"{city}_{number:06d}_{0:06d}"
        for folder, suffix, mode in (("leftImg8bit", "leftImg8bit", "RGB"), ("gtFine", "gtFine_labelIds", "L")):
            path = root / folder / "train" / city / f"{stem}_{suffix}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (64, 64)).save(path)
    return root


def test_synthetic_frames_are_not_called_cityscapes(tmp_path: Path) -> None:
    def labels_and_licence(root: Path, **more: object) -> tuple[tuple[str, ...], str]:
        facts = described([f"cityscapes={root}"], **more)
        return facts.training_data, facts.licence["weights"]

    rendered = cityscapes_frames(tmp_path / "rendered", "synthetic")
    mark_synthetic(rendered, "cityscapes", frames=10, seed=0)
    assert labels_and_licence(rendered, init="random") == (("synthetic street world",), "Apache-2.0")
    assert described([f"cityscapes={rendered}"], init="random").name == "random-resnet18.fpn-synthetic"
    # What CamVid left in the initial weights stays, whatever comes after.
    data = ("synthetic street world", "CamVid (day sequences of train)")
    assert labels_and_licence(rendered, init=CAMVID_MODEL) == (data, "research-only")
    (rendered / "synthetic.json").write_text('{"layout": "cityscapes", "frames": "many"}')
    assert labels_and_licence(rendered, init="random")[0] == ("Cityscapes (train)",)
    # No marker, recordings among the frames, more frames than were rendered: the stricter terms hold.
    for root in (
        cityscapes_frames(tmp_path / "unmarked", "synthetic"),
        cityscapes_frames(tmp_path / "aachen", "aachen"),
        cityscapes_frames(cityscapes_frames(tmp_path / "both", "aachen", 5), "synthetic", 5),
        cityscapes_frames(tmp_path / "more", "synthetic", 11),
    ):
        if root.name != "unmarked":
            mark_synthetic(root, "cityscapes", frames=10, seed=0)
        assert labels_and_licence(root, init="random") == (("Cityscapes (train)",), "research-only"), root


def camvid_names(root: Path, folder: str, *names: str) -> None:
    for suffix in ("", "annot"):
        (root / f"{folder}{suffix}").mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 8)).save(root / folder / f"{name}.png")
        Image.new("L", (8, 8)).save(root / f"{folder}annot" / f"{name}.png")


def test_no_run_trains_on_neighbours_of_camvid_val(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # val begins at frame 7959 of 0016E5; ten seconds at 30 frames per second before it is frame 7659.
    names = ["0016E5_07500", "0016E5_07658", "0016E5_07659", "0016E5_07930", "0016E5_08190", "0016E5_08640"]
    camvid_names(tmp_path, "train", *names, "0006R0_f00930", "0006R0_f00960", "0006R0_f03930", "0001TP_006690")
    dataset = open_dataset("camvid", tmp_path, "train")
    for holdout, last in ((0.0, True), (0.01, False)):
        training, held = training_split(dataset, holdout)
        assert [frame.id for frame in training if frame.scene == "0016E5"] == names[:2]
        assert [frame.id for frame in held if frame.scene == "0016E5"] == names[2:]
        assert ("0006R0_f03930" in {frame.id for frame in training}) is last
    # A split of one's own counts as well: 0006R0 is reported on from frame 1260 on, so trained on before 960.
    camvid_names(tmp_path, "test", "0006R0_f01260")
    training, _ = training_split(dataset, 0.01)
    assert [frame.id for frame in training] == ["0006R0_f00930", *names[:2]]
    camvid_names(tmp_path, "val", "0006R0_f00931", "0016E5_07501")
    with pytest.raises(InputError, match="leaves no frame to train on"):
        training_split(dataset, 0.01)
    # Nor can a run ask for it.
    assert main(words(tmp_path, tmp_path / "out", "--holdout", 0)) == 2
    assert "CamVid's val is part of the training sequences" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_timm_weights_bring_imagenets_terms() -> None:
    start = Start.imagenet(entry("clcp-vit-s-a2d2").architecture)
    # timm's vit_small_patch16_224 is augreg_in21k_ft_in1k: pretrained on ImageNet-21k, finetuned on ImageNet-1k.
    assert start.training_data == ("ImageNet-21k", "ImageNet-1k")
    assert start.summary.startswith("timm vit_small_patch16_224.")
    assert weights_licence(start.terms) == "research-only"
