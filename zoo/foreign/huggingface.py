"""`hf:ORG/NAME[@REVISION]` or `hf:FOLDER`: semantic segmentation models of the package transformers.

Preprocessing, classes and, for models that predict masks, the combination of masks are those of the model's own files
and of transformers. Nothing in a repository is executed: only JSON and safetensors files are downloaded and read, code
of its own and pickled weights are refused, and its configuration cannot name further repositories.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo._torchvision import import_torchvision
from zoo.classes import ClassTable
from zoo.errors import InputError, require
from zoo.files import read_regular, sha256_of
from zoo.folder.schema import parse_json
from zoo.foreign import NO_CLASS, ForeignModel, SchemeOptions
from zoo.frame import Frame
from zoo.label_table import MAX_CLASSES, class_table
from zoo.prediction import Segmentation2D

__all__ = ["ARCHITECTURES", "open_model"]

ARCHITECTURES = {
    "SegformerForSemanticSegmentation": "logits",
    "UperNetForSemanticSegmentation": "logits",
    "Mask2FormerForUniversalSegmentation": "masks",
    "EomtForUniversalSegmentation": "masks",
    "EomtDinov3ForUniversalSegmentation": "masks",
}
"""Supported classes of transformers, and what they return: logits of every pixel, or masks and the class of each."""
_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DOWNLOADED = [_CONFIG, _PROCESSOR, "*.safetensors", _INDEX]
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_MAX_JSON = 16 * 1024 * 1024
_MAX_SIDE = 8192
# Keys of a configuration that choose code or files; the library's own choice is used.
_IGNORED_KEYS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_name_or_path")


def open_model(target: str, options: SchemeOptions) -> ForeignModel:
    """A model of transformers from the Hub or a folder.

    Raises:
        MissingExtraError: If transformers, torch or huggingface_hub is not installed.
        InputError: If there is no such model, its architecture is not supported, it has no safetensors weights or
            no image processor, needs code of its own, or its files do not fit together.
    """
    reference = f"hf:{target}"
    import_torchvision(f"running {reference}")
    try:
        import transformers
    except ImportError as error:
        raise require("transformers", "hf", f"running {reference}") from error
    folder, revision = _folder(target, reference)
    config = _config(folder, reference)
    architecture = _architecture(config, reference)
    weights = _weights(folder, reference)
    processor_json = _processor_config(folder, reference)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model, processor = _built(transformers, folder, architecture, config, reference)
    classes = _classes(model.config, reference)
    from zoo.foreign.torch_models import on_device

    runner = _HuggingFaceModel(
        on_device(model, options), processor, classes, ARCHITECTURES[architecture], options.device, reference
    )
    return ForeignModel(
        name=reference if revision else f"hf:{folder.resolve().name}",
        classes=classes,
        artefact={
            "file": next(iter(weights)),
            "sha256": next(iter(weights.values())),
            "engine": "torch",
            "precision": "fp32",
            "source": reference,
            **({"revision": revision} if revision else {}),
        },
        settings={
            "device": options.device,
            "architecture": architecture,
            "weights": weights,
            "configuration": {name: sha256_of(folder / name) for name in (_CONFIG, _PROCESSOR)},
            "processor": {"class": type(processor).__name__, **processor_json},
        },
        segment=runner.segment,
    )


def _folder(target: str, reference: str) -> tuple[Path, str | None]:
    """The folder with the model's files, and for a repository of the Hub the commit."""
    local = Path(target).expanduser()
    if local.is_dir():
        return local, None
    name, _, revision = target.partition("@")
    if name.count("/") != 1 or not all(name.split("/")) or name.startswith((".", "~")):
        raise InputError(f"{reference} is neither a folder nor ORG/NAME[@REVISION] of the Hub")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise require("huggingface_hub", "hf", f"downloading {reference}") from error
    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=_DOWNLOADED))
    except Exception as error:  # the client raises many kinds, from connection errors to missing repositories
        raise InputError(
            f"downloading {reference} failed ({type(error).__name__}: {str(error).splitlines()[0]}); check the name, "
            "the revision and the network, or give a folder"
        ) from error
    return folder, folder.name


def _json(path: Path, reference: str, purpose: str) -> dict[str, Any]:
    try:
        found = parse_json(read_regular(path, _MAX_JSON), str(path))
    except FileNotFoundError as error:
        raise InputError(f"{reference} has no {path.name}, which {purpose}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a table")
    if "auto_map" in found:
        raise InputError(f"{reference} needs code of its own (auto_map in {path.name}), which is never run")
    return found


def _config(folder: Path, reference: str) -> dict[str, Any]:
    """The configuration, without keys that choose code or further files."""
    config = _json(folder / _CONFIG, reference, "describes the model")
    if (folder / "adapter_config.json").exists():
        raise InputError(f"{reference} is an adapter of another model; merge the two and save the result")
    return _self_contained(config, reference)


def _self_contained(part: Any, reference: str) -> Any:
    if isinstance(part, list):
        return [_self_contained(each, reference) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("quantization_config") is not None:
        raise InputError(f"{reference} is quantised; only float weights are supported")
    if part.get("backbone") is not None:
        raise InputError(
            f"{reference} takes its backbone from another model, {part['backbone']!r}; only models whose {_CONFIG} "
            "describes the backbone itself (backbone_config) are supported"
        )
    kept = {key: _self_contained(value, reference) for key, value in part.items() if key not in _IGNORED_KEYS}
    return kept | ({"use_pretrained_backbone": False} if "use_pretrained_backbone" in kept else {})


def _architecture(config: Mapping[str, Any], reference: str) -> str:
    named = config.get("architectures")
    if isinstance(named, list) and len(named) == 1 and named[0] in ARCHITECTURES:
        return named[0]
    found = ", ".join(map(str, named)) if isinstance(named, list) and named else "none"
    raise InputError(f"{reference}: architecture {found} is not supported; known: {', '.join(ARCHITECTURES)}")


def _weights(folder: Path, reference: str) -> dict[str, str]:
    """SHA-256 of the files with weights; if there are several, the index comes first."""
    if (folder / _WEIGHTS).is_file():
        return {_WEIGHTS: sha256_of(folder / _WEIGHTS)}
    if not (folder / _INDEX).is_file():
        pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
        found = f"; {pickled[0]} may hold pickled code and is never read" if pickled else ""
        raise InputError(f"{reference} has no {_WEIGHTS}{found}; save the weights as safetensors")
    shards = _json(folder / _INDEX, reference, "lists the weights").get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise InputError(f"{folder / _INDEX} lists no weights")
    names = sorted(set(map(str, shards.values())))
    for name in names:
        if "/" in name or "\\" in name or not name.endswith(".safetensors"):
            raise InputError(f"{reference}: {_INDEX} names {name!r}; only safetensors files next to it are read")
        if not (folder / name).is_file():
            raise InputError(f"{reference} lacks {name}, which its {_INDEX} names")
    return {name: sha256_of(folder / name) for name in (_INDEX, *names)}


def _processor_config(folder: Path, reference: str) -> dict[str, Any]:
    """The processor's configuration; its sizes are checked, since an image is resized before the model sees it."""
    config = _json(folder / _PROCESSOR, reference, "says how images are prepared")
    for key in ("size", "crop_size", "pad_size"):
        value = config.get(key)
        sides = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if any(side is not None and (type(side) is not int or not 1 <= side <= _MAX_SIDE) for side in sides):
            raise InputError(f"{reference}: {key} {value!r} in {_PROCESSOR} must be sides from 1 to {_MAX_SIDE}")
    return config


def _built(
    transformers: Any, folder: Path, architecture: str, config: Mapping[str, Any], reference: str
) -> tuple[Any, Any]:
    """The model with all its weights, and its image processor."""
    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise InputError(
            f"{reference}: transformers {transformers.__version__} has no {architecture}; install a newer one"
        )
    fixed = {"local_files_only": True, "trust_remote_code": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            processor = transformers.AutoImageProcessor.from_pretrained(str(folder), **fixed)
            model, loaded = kind.from_pretrained(
                str(folder),
                config=kind.config_class.from_dict(dict(config)),
                use_safetensors=True,
                output_loading_info=True,
                **fixed,
            )
    except Exception as error:  # transformers raises dozens of kinds for a configuration or file that it cannot use
        from zoo.foreign.torch_models import first_line

        raise InputError(f"{reference}: transformers cannot load it: {first_line(error)}") from error
    if missing := sorted(loaded["missing_keys"]):
        raise InputError(
            f"{reference} lacks {len(missing)} tensors of the architecture, for example {missing[0]}; without them, "
            "those layers would be random"
        )
    return model, processor


def _classes(config: Any, reference: str) -> ClassTable:
    """The names of id2label, in the order of the ids."""
    names = getattr(config, "id2label", None) or {}
    if sorted(names) != list(range(len(names))) or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"{reference}: id2label in {_CONFIG} must name the classes 0 to N - 1")
    if len(names) > MAX_CLASSES:
        raise InputError(f"{reference} has {len(names)} classes; at most {MAX_CLASSES} are supported")
    ordered = [names[i] for i in range(len(names))]
    if twice := [name for name in ordered if ordered.count(name) > 1]:
        raise InputError(f"{reference}: id2label in {_CONFIG} names two classes {twice[0]!r}")
    return class_table(ordered, reference, f"{reference}, id2label,")


class _HuggingFaceModel:
    """Runs the model on frames."""

    def __init__(
        self, model: Any, processor: Any, classes: ClassTable, returns: str, device: str, reference: str
    ) -> None:
        self.model, self.processor, self.classes = model, processor, classes
        self.returns, self.device, self.reference = returns, device, reference

    def segment(self, frame: Frame) -> Segmentation2D:
        import torch

        image = frame.camera.image
        size = image.shape[0], image.shape[1]
        prepared = self.processor(images=Image.fromarray(image), return_tensors="pt")
        inputs = {
            key: prepared[key].to(self.device) if isinstance(prepared[key], torch.Tensor) else prepared[key]
            for key in ("pixel_values", "pixel_mask", "patch_offsets")
            if key in prepared
        }
        try:
            with torch.inference_mode():
                outputs = self.model(**inputs)
        except RuntimeError as error:  # shapes that do not fit, or memory
            from zoo.foreign.torch_models import first_line

            raise InputError(f"{self.reference} failed on frame {frame.id}: {first_line(error)}") from error
        labels, scores = self._decided(outputs, size)
        return Segmentation2D(labels=labels, scores=scores, classes=self.classes, image=image)

    def _decided(self, outputs: Any, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
        """Labels, and scores where the model defines them: masks and their classes are no distribution per pixel."""
        if self.returns == "logits":
            from zoo.foreign.torch_models import labels_and_scores

            if len(outputs.logits[0]) != len(self.classes):
                raise InputError(
                    f"{self.reference} returns {len(outputs.logits[0])} classes, but id2label names {len(self.classes)}"
                )
            return labels_and_scores(outputs.logits[0], size)
        (found,) = self.processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
        ids = found.cpu().numpy()
        if ids.min() < 0 or ids.max() >= len(self.classes):
            return np.where((ids < 0) | (ids >= len(self.classes)), NO_CLASS, ids).astype(np.uint8), None
        return ids.astype(np.uint8), None
