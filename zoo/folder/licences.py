"""The licence of weights, derived from everything that went into them, and the text of the `LICENSE` file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.data.terms import Terms

__all__ = ["APACHE", "RESEARCH_ONLY", "UNKNOWN", "licence_text", "terms_of_weights", "weights_licence"]

APACHE = "Apache-2.0"
UNKNOWN = "unknown"
RESEARCH_ONLY = "research-only"
NO_DERIVATIVES = "no-derivatives"
SHARE_ALIKE = "share-alike"
_PERMISSIVE = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT", "Unlicense"}

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
    known = licence in _PERMISSIVE or licence in _TEXTS
    return Terms(
        name=name,
        licence=licence,
        commercial=commercial if known else None,
        share_alike=licence == SHARE_ALIKE,
        no_derivatives=licence == NO_DERIVATIVES,
    )


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
