"""Licence files of model folders."""

from __future__ import annotations

from zoo.catalogue import Entry

__all__ = ["licence_text"]

_RESEARCH = """These weights are for research use only.

They were trained on data whose makers allow research use; neither the weights nor anything derived from them may be
used commercially. The data's own terms apply in addition. The code that runs them is licensed under Apache-2.0.
"""
_APACHE = """These weights are licensed under the Apache License, Version 2.0
(http://www.apache.org/licenses/LICENSE-2.0), as is the code that made them.
"""


def licence_text(entry: Entry) -> str:
    """The text of `LICENSE` for a model: its terms, and the chain of licences that they follow from."""
    body = {"Apache-2.0": _APACHE, "research-only": _RESEARCH}.get(entry.licence, f"Licence: {entry.licence}\n")
    chain = "".join(f"- {part}: {terms}\n" for part, terms in entry.licences.items())
    return f"{entry.name}\n\n{body}\nWhat went into them:\n{chain}"
