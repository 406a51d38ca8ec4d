"""The licence of weights, derived from everything that went into them, and the text of the `LICENSE` file.

`licence` in `config.json` says it in words, part by part. `licence_chain` says the same for programs: one entry each
for the weights, the code, the initial weights and every data set, with what its terms allow.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.data.terms import Terms, terms_named

__all__ = [
    "APACHE",
    "CODE",
    "OWN_PARTS",
    "RANDOM",
    "RESEARCH_ONLY",
    "UNKNOWN",
    "Link",
    "chain_of",
    "commercial_use",
    "licence_text",
    "terms_of_weights",
    "weights_licence",
    "weights_link",
]

APACHE = "Apache-2.0"
UNKNOWN = "unknown"
RESEARCH_ONLY = "research-only"
NO_DERIVATIVES = "no-derivatives"
SHARE_ALIKE = "share-alike"
_PERMISSIVE = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT", "Unlicense"}

OWN_PARTS = ("weights", "code", "initial weights")
"""Parts of a chain that are not data sets."""
CODE = Terms(name="perception-zoo", licence=APACHE, commercial=True, share_alike=False, no_derivatives=False)
"""Of the code that trains and runs the models."""
RANDOM = Terms(name="random", licence="none needed", commercial=True, share_alike=False, no_derivatives=False)
"""Of random initial weights."""

_TEXTS = {
    UNKNOWN: """The licence of these weights is unknown.

The terms of at least one of the parts below could not be looked up, so no permission can be given here. Ask the makers
of that part before you use or pass on these weights. The terms of all other parts apply as well.
""",
    RESEARCH_ONLY: """These weights are for research use only.

They were trained on data whose makers allow research use; neither the weights nor anything derived from them may be
used commercially. The data's own terms apply in addition.
""",
    NO_DERIVATIVES: """These weights may not be passed on.

They were trained on data whose licence forbids sharing adapted material, and weights may count as such. The data's own
terms apply in addition.
""",
    SHARE_ALIKE: """These weights may be passed on only under the licence of the data they were trained on.

That data's licence asks for it (share-alike). The data's own terms apply in addition.
""",
    APACHE: """These weights are licensed under the Apache License, Version 2.0
(http://www.apache.org/licenses/LICENSE-2.0), as is the code that made them.
""",
}


def weights_licence(parts: Sequence[Terms]) -> str:
    """The licence of weights made from `parts`: the strictest that follows from any of them.

    From strict to free: `unknown`, `research-only`, `no-derivatives`, `share-alike`, `Apache-2.0`. Unknown terms come
    first because they may forbid what research-only terms allow. Without any parts the licence is unknown.
    """
    if not parts:
        return UNKNOWN
    found = {_follows_from(part) for part in parts}
    return next((licence for licence in _TEXTS if licence in found), APACHE)


def _follows_from(part: Terms) -> str:
    if part.commercial is False:
        return RESEARCH_ONLY
    if part.no_derivatives:
        return NO_DERIVATIVES
    if part.share_alike:
        return SHARE_ALIKE
    return UNKNOWN if None in (part.commercial, part.no_derivatives, part.share_alike) else APACHE


def terms_of_weights(name: str, licence: str) -> Terms:
    """The terms of existing weights whose folder states `licence`; unknown if that licence is not known here."""
    commercial = {RESEARCH_ONLY: False, UNKNOWN: None}.get(licence, True)
    return Terms(
        name=name,
        licence=licence,
        commercial=commercial if _is_known(licence) else None,
        share_alike=licence == SHARE_ALIKE,
        no_derivatives=licence == NO_DERIVATIVES,
    )


def _is_known(licence: str) -> bool:
    return licence in _PERMISSIVE or licence in _TEXTS


@dataclass(frozen=True)
class Link:
    """One entry of a licence chain.

    Attributes:
        part: One of `OWN_PARTS`, or `data`.
        terms: What may be done with works made from it; for the weights, with the weights themselves.
    """

    part: str
    terms: Terms

    def to_json(self) -> dict[str, Any]:
        """The entry in `config.json`; null where the terms are unknown."""
        terms = self.terms
        entry = {
            "part": self.part,
            "name": terms.name,
            "licence": terms.licence,
            "commercial": terms.commercial,
            "share_alike": terms.share_alike,
            "no_derivatives": terms.no_derivatives,
        }
        return {**entry, "source": terms.source} if terms.source else entry

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Link:
        """The link that an entry in `config.json` describes."""
        return cls(entry["part"], Terms(**{key: value for key, value in entry.items() if key != "part"}))


def chain_of(config: Mapping[str, Any]) -> tuple[Link, ...]:
    """The licence chain of a model folder; empty if the folder states no licence.

    Folders written before there was a `licence_chain` state their licences in words only. Their data sets are looked up
    in `zoo.data.terms`, and what it does not know is unknown.

    Args:
        config: Content of `config.json`.
    """
    if "licence_chain" in config:
        return tuple(map(Link.from_json, config["licence_chain"]))
    stated = config.get("licence", {})
    links = [Link(part if part in OWN_PARTS else "data", _in_words(config, part, stated[part])) for part in stated]
    if stated:  # data of the initial weights was listed as training data, but not always with its licence
        data = dict.fromkeys(name.partition(" (")[0] for name in config.get("training_data", ()))
        links += [Link("data", _in_words(config, name, UNKNOWN)) for name in data if name not in stated]
    if "weights" in stated:
        links[list(stated).index("weights")] = weights_link(config["name"], stated["weights"], links)
    return tuple(links)


def _in_words(config: Mapping[str, Any], part: str, text: str) -> Terms:
    if part == "weights":
        return terms_of_weights(config["name"], text)
    if part == "initial weights":
        if text == RANDOM.name:
            return RANDOM
        # "NAME, LICENCE" or "NAME (LICENCE), which started from ..."
        name, *words = re.findall(r"[\w.+-]+", text) or [text]
        return terms_of_weights(name, next((word for word in words if _is_known(word)), UNKNOWN))
    if part == "code":
        return terms_of_weights(CODE.name, text)
    return terms_named(part) or Terms(name=part, licence=UNKNOWN, commercial=None)


def commercial_use(chain: Sequence[Link]) -> bool:
    """Whether every part is known to allow commercial use."""
    return bool(chain) and all(link.terms.commercial is True for link in chain)


def weights_link(name: str, licence: str, others: Sequence[Link]) -> Link:
    """The link of weights under `licence`, which inherit the conditions of everything that went into them.

    Args:
        name: Of the model.
        licence: Of its weights.
        others: The links of the initial weights and the data.
    """
    parts = [link.terms for link in others if link.part in ("initial weights", "data")]
    own = terms_of_weights(name, licence)
    share_alike = _any_of([own.share_alike, *(terms.share_alike for terms in parts)])
    no_derivatives = _any_of([own.no_derivatives, *(terms.no_derivatives for terms in parts)])
    return Link("weights", dataclasses.replace(own, share_alike=share_alike, no_derivatives=no_derivatives))


def _any_of(values: Sequence[bool | None]) -> bool | None:
    """Whether one of several is true, where `None` is unknown."""
    return True if True in values else None if None in values else False


def licence_text(name: str, licences: Mapping[str, str]) -> str:
    """The text of `LICENSE` for a model folder.

    Args:
        name: Name of the model.
        licences: Section `licence` of its configuration: the licence of `weights`, and of each part it derives from.
    """
    weights = licences["weights"]
    body = _TEXTS.get(weights, f"Licence: {weights}\n")
    chain = "".join(f"- {part}: {terms}\n" for part, terms in licences.items() if part != "weights")
    return f"{name}\n\n{body}\nWhat went into them:\n{chain}"
