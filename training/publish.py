"""Writes the finished model folder of a run.

Only the architecture, with its preprocessing and inference mode, comes from the catalogue. Name, description, classes,
licence and training data follow from the data sets that were used, their terms (`zoo.data.terms`) and the initial
weights.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.classes import ClassTable
from zoo.data.dataset import Dataset
from zoo.data.terms import IMAGENET, IMAGENET_21K, SYNTHETIC, Terms, terms_named, terms_of
from zoo.errors import InputError
from zoo.files import atomic_directory
from zoo.folder.card import render_card
from zoo.folder.catalogue import Entry, entries
from zoo.folder.licences import (
    APACHE,
    CODE,
    OWN_PARTS,
    RANDOM,
    UNKNOWN,
    Link,
    chain_of,
    licence_text,
    terms_of_weights,
    weights_licence,
    weights_link,
)
from zoo.folder.model_folder import CARD, CONFIG, FORMAT, METRICS, ModelFolder, encode_document, write_manifest
from zoo.folder.provenance import trained_on
from zoo.folder.weights import serialise
from zoo.frame import Frame
from zoo.inputs import input_from_json

__all__ = ["Facts", "Start", "Used", "describe", "publish"]


@dataclass(frozen=True, kw_only=True)
class Start:
    """The initial weights of a run and their provenance.

    Attributes:
        kind: `random`, `imagenet` or `finetuned`; the first part of a default name.
        summary: Entry `initial weights` of the licence section.
        terms: Terms of the weights themselves and of all data that they were trained on.
        licences: Entries of the licence section for that data.
        training_data: Names of that data, in order of use.
        trained_on: Records of that data (`zoo.folder.provenance`).
        chain: Links of that data in the licence chain.
        weights: Terms of the initial weights themselves.
    """

    kind: str
    summary: str
    weights: Terms
    terms: tuple[Terms, ...] = ()
    licences: Mapping[str, str] = field(default_factory=dict)
    training_data: tuple[str, ...] = ()
    trained_on: tuple[Mapping[str, Any], ...] = ()
    chain: tuple[Link, ...] = ()

    @classmethod
    def random(cls) -> Start:
        """Random initial weights."""
        return cls(kind="random", summary="random", weights=RANDOM)

    @classmethod
    def imagenet(cls, architecture: Mapping[str, Any]) -> Start:
        """timm's pretrained weights of the encoder. Their tag names the data, as in `augreg_in21k_ft_in1k`."""
        from zoo._torchvision import import_timm

        name = architecture["encoder"].get("arguments", {}).get("model", "")
        known = import_timm().models.get_pretrained_cfg(name)
        tag = (known.tag if known else "") or ""
        data = [IMAGENET]
        if re.search(r"in2[12]k|in12k", tag):
            data.insert(0, IMAGENET_21K)
        elif "in1k" not in tag:
            data.insert(0, Terms(name=f"data of timm's weights {tag or name}", licence=UNKNOWN, commercial=None))
        summary = f"timm {name}.{tag}".rstrip(".")
        return cls(
            kind="imagenet",
            summary=summary,
            # timm's README: assume that the licence of the original data set applies to the weights.
            weights=terms_of_weights(summary, weights_licence(data)),
            terms=tuple(data),
            chain=tuple(Link("data", terms) for terms in data),
            licences={terms.name: terms.summary for terms in data},
            training_data=tuple(terms.name for terms in data),
        )

    @classmethod
    def folder(cls, folder: ModelFolder) -> Start:
        """The weights of a model folder, whose provenance is inherited.

        The folder's stated licence applies, but so do the terms of each of its data sets that `zoo.data.terms` lists:
        a folder that claims more than its data allows does not pass the claim on.
        """
        licences = folder.config.get("licence") or {}
        weights = licences.get("weights", UNKNOWN)
        data = tuple(folder.config.get("training_data", ()))
        before = licences.get("initial weights")
        known = [terms for terms in map(terms_named, data) if terms is not None]
        recorded = (folder.config.get("provenance") or {}).get("trained_on", ({"unrecorded": True, "scenes": {}},))
        return cls(
            kind="finetuned",
            summary=f"{folder.name} ({weights})" + (f", which started from {before}" if before else ""),
            weights=terms_of_weights(folder.name, weights),
            terms=(terms_of_weights(folder.name, weights), *known),
            chain=tuple(link for link in chain_of(folder.config) if link.part == "data"),
            licences={part: terms for part, terms in licences.items() if part not in OWN_PARTS},
            training_data=data or (f"unknown data of {folder.name}",),
            trained_on=tuple({"by": folder.name, **entry} for entry in recorded),
        )


@dataclass(frozen=True)
class Used:
    """The part of a data set that a run uses.

    Attributes:
        dataset: Data set.
        frames: Frames used for training.
        held_back: Number of frames excluded from training.
    """

    dataset: Dataset
    frames: Sequence[Frame]
    held_back: int = 0

    @property
    def terms(self) -> Terms:
        """Terms of the data."""
        return terms_of(self.dataset)

    @property
    def label(self) -> str:
        """Entry in the list of training data."""
        return self.terms.name if self.terms is SYNTHETIC else f"{self.terms.name} ({self.dataset.split})"

    @functools.cached_property
    def record(self) -> dict[str, Any]:
        """Entry of `provenance.trained_on`. Computing the fingerprint reads every file once."""
        return trained_on(self.dataset, self.frames, self.held_back)

    @property
    def summary(self) -> str:
        """Reader, split and fingerprint."""
        return f"{self.dataset.kind} {self.dataset.split}, fingerprint {self.record['fingerprint']}"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts in a finished model folder, except the weights and the record of the run.

    Attributes:
        name: Name of the model.
        description: One-line description.
        entry: Catalogue entry of the architecture.
        classes: Class table of the model's labels; `None` if it has none.
        licence: Licence section of the configuration.
        training_data: Names of the data sets, in order of use.
        trained_on: Records of the data (`zoo.folder.provenance`).
    """

    name: str
    description: str
    entry: Entry
    classes: ClassTable | None
    licence: Mapping[str, str]
    chain: tuple[Link, ...]
    training_data: tuple[str, ...]
    trained_on: tuple[Mapping[str, Any], ...]


def describe(
    settings: Any, entry: Entry, start: Start, used: Sequence[Used], classes: ClassTable | None = None
) -> Facts:
    """Derives the facts about the model that a run will produce.

    Args:
        settings: Settings of the recipe, including `name`.
        entry: Catalogue entry of the architecture.
        start: Initial weights.
        used: Data sets.
        classes: Class table of the model's labels.

    Raises:
        InputError: If the name belongs to a different model of the catalogue.
    """
    data = tuple(dict.fromkeys((*start.training_data, *(each.label for each in used))))
    own = [each.terms for each in used]
    weights = weights_licence([*own, *start.terms])
    licence = {
        "weights": weights,
        "code": APACHE,
        **{terms.name: terms.summary for terms in own},
        **{part: terms for part, terms in start.licences.items() if part not in {each.name for each in own}},
        "initial weights": start.summary,
    }
    name = settings.name or _default_name(entry, start, own)
    _refuse_false_name(name, entry, data, classes)
    labels = f"{len(classes)} {_title(classes.taxonomy)} classes" if classes else "features"
    origin = {"random": "random weights", "imagenet": start.summary}.get(start.kind, start.summary.partition(" (")[0])
    description = f"Street segmentation, {labels}" if classes else "Street features"
    description += f", trained from {origin} on {' and '.join(dict.fromkeys(each.label for each in used))}"
    description += {APACHE: "", UNKNOWN: "; licence unknown"}.get(weights, f"; {weights.replace('-', ' ')}")
    return Facts(
        name=name,
        description=description,
        entry=entry,
        classes=classes,
        licence=licence,
        chain=_chain(name, weights, start, own),
        training_data=data,
        trained_on=(*(each.record for each in used), *start.trained_on),
    )


def _chain(name: str, licence: str, start: Start, own: Sequence[Terms]) -> tuple[Link, ...]:
    """The licence chain, each data set once: what was read, then what the initial weights were made from."""
    data = {terms.name: Link("data", terms) for terms in own}
    data |= {link.terms.name: link for link in start.chain if link.terms.name not in data}
    made_from = (Link("initial weights", start.weights), *data.values())
    return (weights_link(name, licence, made_from), Link("code", CODE), *made_from)


def _title(taxonomy: str) -> str:
    return {"camvid": "CamVid", "cityscapes": "Cityscapes", "semantickitti": "SemanticKITTI"}.get(taxonomy, taxonomy)


def _default_name(entry: Entry, start: Start, data: Sequence[Terms]) -> str:
    """Name composed of initial weights, encoder, head and data, such as `random-resnet18.fpn-camvid`."""
    encoder, head = entry.architecture["encoder"], entry.architecture.get("head")
    model = encoder.get("arguments", {}).get("model") or encoder["class"].rpartition(":")[2]
    middle = model if head is None else f"{model}.{head['class'].partition(':')[0].rpartition('.')[2]}"
    sets = dict.fromkeys("synthetic" if terms is SYNTHETIC else terms.name for terms in data)
    name = "-".join([start.kind, middle, *sets]).lower()
    return re.sub(r"[^a-z0-9._-]+", "-", name)[:100]


def _refuse_false_name(name: str, entry: Entry, data: Sequence[str], classes: ClassTable | None) -> None:
    owner = entries().get(name)
    if owner is None:
        return
    wrong = owner.differences(entry.architecture, classes, data)
    if wrong:
        raise InputError(
            f"--name {name} belongs to a catalogue model with different {' and '.join(wrong)} "
            f"(this run's data: {', '.join(data)}); choose another name"
        )


def publish(folder: Path, model: nn.Module, facts: Facts, record: Mapping[str, Any]) -> None:
    """Writes the finished model folder atomically.

    Args:
        folder: New folder; an existing one is refused.
        model: Model with its final weights.
        facts: Facts about the model.
        record: Record of the run, for `provenance`.

    Raises:
        InputError: If `folder` exists or cannot be written, or the configuration does not match its schema.
    """
    weights = serialise(model.state_dict(), torch.float16)
    with atomic_directory(folder) as temporary:
        (temporary / "model.safetensors").write_bytes(weights)
        (temporary / "LICENSE").write_text(licence_text(facts.name, facts.licence), encoding="utf-8")
        metrics = {"format": FORMAT, "rows": []}
        (temporary / METRICS).write_bytes(encode_document(metrics, "metrics", folder / METRICS))
        config = _config(facts, model, record, weights)
        (temporary / CONFIG).write_bytes(encode_document(config, "config", folder / CONFIG))
        (temporary / CARD).write_text(render_card(config, []), encoding="utf-8")
        write_manifest(temporary)


def _config(facts: Facts, model: nn.Module, record: Mapping[str, Any], weights: bytes) -> dict[str, Any]:
    entry = facts.entry
    config: dict[str, Any] = {
        "format": FORMAT,
        "name": facts.name,
        "description": facts.description,
        "task": entry.task,
        "modality": entry.modality,
        "architecture": entry.architecture,
        "inputs": [input_from_json(section).to_json() for section in entry.inputs],
        "output": {} if facts.classes is None else {"classes": facts.classes.to_json()},
    }
    return {
        **config,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "licence": dict(facts.licence),
        "licence_chain": [link.to_json() for link in facts.chain],
        "training_data": list(facts.training_data),
        "provenance": {**record, "trained_on": list(facts.trained_on)},
        "artefacts": [
            {
                "file": "model.safetensors",
                "engine": "torch",
                "precision": "fp16",
                "sha256": hashlib.sha256(weights).hexdigest(),
            }
        ],
    }
