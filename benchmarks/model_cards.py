"""Renders every model card of the repository anew, with its pictures, and `model_cards/NAME.md` for every model.

    python benchmarks/model_cards.py [--pictures]

A card of a released model is the README of its folder. For a model that is not released, the card says what is missing
and which command makes it. With `--pictures`, the pictures are made anew first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zoo.commands.card import add_pictures, render
from zoo.folder.catalogue import BUNDLED, Entry, entries
from zoo.folder.model_folder import ModelFolder

ROOT = Path(__file__).parents[1]
CARDS = ROOT / "model_cards"


def unreleased(entry: Entry) -> str:
    """The card of a model whose weights do not exist yet, from its entry in the catalogue."""
    classes = f"{len(entry.classes)} classes of {entry.taxonomy}" if entry.classes else "none"
    encoder, head = entry.architecture["encoder"], entry.architecture.get("head")
    parts = [f"`{part['class']}` {json.dumps(part.get('arguments', {}))}" for part in (encoder, head) if part]
    recipe = f"\n\n```\n{entry.recipe}\n```" if entry.recipe.startswith("zoo ") else f" {entry.recipe}."
    return f"""# {entry.name}

{entry.description}.

**Not released.** The weights do not exist in this package: nobody has trained them here, so there are no results, no \
exported files and no licence. What is missing: a training run on {", then ".join(entry.training_data)}. What makes \
it:{recipe}

A folder that such a run wrote gets this name, if its training record names that data:

```
zoo install FOLDER --as {entry.name}
```

Until then, `zoo.load("{entry.name}")` raises an error, and `zoo.create("{entry.name}")` builds it untrained.

| | |
| --- | --- |
| task | {entry.task} ({entry.modality}) |
| classes | {classes} |
| parameters | {entry.parameters:,} |
| architecture | {", ".join(parts)} |
"""


def cards() -> dict[str, str]:
    """Content of `model_cards/NAME.md` by name."""
    texts = {}
    for name, entry in entries().items():
        if entry.bundled:
            texts[name] = ModelFolder.open(BUNDLED / name).card(pictures=f"../zoo/models/{name}/")
        else:
            texts[name] = unreleased(entry)
    return texts


def main() -> None:
    """Writes all cards."""
    for name in (name for name, entry in entries().items() if entry.bundled):
        folder = ModelFolder.open(BUNDLED / name)
        render(add_pictures(folder) if "--pictures" in sys.argv[1:] else folder)
    texts = cards()
    for name, text in texts.items():
        (CARDS / f"{name}.md").write_text(text, encoding="utf-8")
    for path in CARDS.glob("*.md"):
        if path.stem not in texts:
            path.unlink()
    print(f"{len(texts)} cards in {CARDS}")


if __name__ == "__main__":
    main()
