"""Classes as users write them in YAML: names, the ids that files hold or models return, colours, ignored ids.

`classes` is one of:

```yaml
classes: cityscapes                    # a table of zoo/classes.py: ids 0 to 18
classes: [road, grass]                 # ids 0 and 1
classes: {7: road, 21: grass}          # names by id
classes:                               # in full; without `id`, the position counts, without `color`, one is chosen
  - {name: road, id: 7, color: [128, 64, 128]}
  - {name: grass, id: 21}
ignored: [255]                         # ids of pixels or points without a class; 255 by default
```
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from zoo.classes import TAXONOMIES, ClassTable, taxonomy
from zoo.errors import InputError

__all__ = ["MAX_CLASSES", "LabelTable", "class_table", "parse_classes"]

MAX_CLASSES = 255
"""Labels are bytes, and 255 means no class."""
_NO_CLASS = 255
_MAX_ID = 65535
_IGNORED, _UNKNOWN = np.uint16(256), np.uint16(257)


@dataclass(frozen=True)
class LabelTable:
    """Classes and their ids in files or model outputs.

    Attributes:
        classes: The classes; label `i` means `classes.names[i]`.
        ids: The id of each class.
        ignored: Ids of pixels or points without a class.
        merged: Label of each further id, where several ids mean the same class.
    """

    classes: ClassTable
    ids: tuple[int, ...]
    ignored: tuple[int, ...] = (_NO_CLASS,)
    merged: Mapping[int, int] = field(default_factory=dict)

    @cached_property
    def _lookup(self) -> np.ndarray:
        lookup = np.full(_MAX_ID + 1, _UNKNOWN, np.uint16)
        lookup[list(self.ignored)] = _IGNORED
        lookup[list(self.ids)] = np.arange(len(self.ids))
        lookup[list(self.merged)] = list(self.merged.values())
        return lookup

    def labels(self, ids: np.ndarray, what: str, ignored_label: int) -> np.ndarray:
        """uint8 labels of ids, `(H, W)` or `(N,)`.

        Args:
            ids: Whole numbers.
            what: Where they come from, for errors.
            ignored_label: Label of the ignored ids.

        Raises:
            InputError: If an id is neither that of a class nor ignored.
        """
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) > _MAX_ID):
            raise InputError(f"{what} holds ids from {ids.min()} to {ids.max()}; expected 0 to {_MAX_ID}")
        labels = self._lookup[ids]
        if (labels == _UNKNOWN).any():
            unknown = np.unique(ids[labels == _UNKNOWN])
            listed = ", ".join(map(str, unknown[:8])) + (", ..." if len(unknown) > 8 else "")
            raise InputError(
                f"{what} holds ids outside the classes: {listed}; "
                f"the classes have {_ranges([*self.ids, *self.merged])}, ignored are {_ranges(self.ignored) or 'none'}"
            )
        labels[labels == _IGNORED] = ignored_label
        return labels.astype(np.uint8)

    def to_json(self) -> dict[str, Any]:
        """Names, ids and ignored ids, for records."""
        found = {"names": list(self.classes.names), "ids": list(self.ids), "ignored": list(self.ignored)}
        return {**found, "merged": dict(self.merged)} if self.merged else found


def _ranges(ids: Sequence[int]) -> str:
    """`0 to 3, 7` for the ids 0, 1, 2, 3 and 7."""
    runs: list[list[int]] = []
    for each in sorted(ids):
        if runs and each == runs[-1][1] + 1:
            runs[-1][1] = each
        else:
            runs.append([each, each])
    shown = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")


def parse_classes(section: Mapping[str, Any], what: str, own_name: str) -> LabelTable:
    """The label table of a file with the keys `classes` and, optionally, `ignored`.

    Args:
        section: Content of the file.
        what: Name of the file, for errors.
        own_name: Name of the set of classes, if it is not a known one.

    Raises:
        InputError: If the classes are missing, incomplete, repeated or too many.
    """
    if "classes" not in section:
        known = ", ".join(TAXONOMIES)
        raise InputError(f"{what} lists no classes; add `classes:` with names, or the name of a known set: {known}")
    value = section["classes"]
    ignored = section.get("ignored", [_NO_CLASS])
    if not isinstance(ignored, list) or not all(_is_id(each) for each in ignored):
        raise InputError(f"{what}: ignored must be a list of ids from 0 to {_MAX_ID}, got {ignored!r}")
    if isinstance(value, str):
        known_table = taxonomy(value)
        return _table(known_table, tuple(range(len(known_table))), tuple(ignored), what)
    rows = [_row(each, position, what) for position, each in enumerate(_entries(value, what))]
    names, ids = tuple(row[0] for row in rows), tuple(row[1] for row in rows)
    for each, kind in ((names, "name"), (ids, "id")):
        if len(set(each)) < len(each):
            twice = next(one for one in each if each.count(one) > 1)
            raise InputError(f"{what}: two classes have the {kind} {twice!r}")
    table = class_table(names, own_name, what, [row[2] for row in rows])
    return _table(table, ids, tuple(ignored), what)


def _table(classes: ClassTable, ids: tuple[int, ...], ignored: tuple[int, ...], what: str) -> LabelTable:
    if both := sorted(set(ids) & set(ignored)):
        raise InputError(f"{what}: id {both[0]} is a class and ignored")
    return LabelTable(classes, ids, ignored)


def _entries(value: Any, what: str) -> list[Any]:
    if isinstance(value, dict):
        return [{"name": name, "id": id} for id, name in value.items()]
    if isinstance(value, list) and value:
        return value
    raise InputError(f"{what}: classes must be the name of a known set, a list, or a table of names by id")


def _row(entry: Any, position: int, what: str) -> tuple[str, int, tuple[int, int, int] | None]:
    where = f"{what}: class {position + 1}"
    if not isinstance(entry, dict):
        entry = {"name": entry}
    if unknown := sorted(map(str, set(entry) - {"name", "id", "color"})):
        raise InputError(f"{where} has the unknown key {unknown[0]}; known: name, id, color")
    name, id, color = entry.get("name"), entry.get("id", position), entry.get("color")
    if not isinstance(name, str) or not name.strip() or len(name) > 200 or not name.isprintable():
        raise InputError(f"{where}: expected a name, got {name!r}; put words such as no and on into quotes")
    if not _is_id(id):
        raise InputError(f"{where} ({name}): id {id!r} is not a whole number from 0 to {_MAX_ID}")
    if color is None:
        return name, id, None
    if not (isinstance(color, list) and len(color) == 3 and all(_is_id(each) and each <= 255 for each in color)):
        raise InputError(f"{where} ({name}): color {color!r} is not three whole numbers from 0 to 255")
    return name, id, (color[0], color[1], color[2])


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_ID


def class_table(
    names: Sequence[str], own_name: str, what: str, colors: Sequence[tuple[int, int, int] | None] = ()
) -> ClassTable:
    """A class table of these names.

    Its taxonomy is the first known one that contains every name, so the tables of `zoo.class_maps` apply to it, and
    otherwise `own_name`. Classes without a colour get that of the known class of the same name, or one of their own.

    Raises:
        InputError: If there are more classes than labels can tell apart.
    """
    if not 1 <= len(names) <= MAX_CLASSES:
        raise InputError(f"{what} has {len(names)} classes; expected 1 to {MAX_CLASSES}")
    known = next((table for table in TAXONOMIES.values() if set(names) <= set(table.names)), None)
    by_name = {} if known is None else dict(zip(known.names, known.colors, strict=True))
    given = [*colors, *[None] * (len(names) - len(colors))]
    chosen = [color or by_name.get(name) or _color(i) for i, (name, color) in enumerate(zip(names, given, strict=True))]
    return ClassTable(own_name if known is None else known.taxonomy, tuple(names), tuple(chosen))


def _color(index: int) -> tuple[int, int, int]:
    """A bright colour whose hue differs from its neighbours' by the golden angle."""
    red, green, blue = colorsys.hsv_to_rgb(
        index * 0.618034 % 1, 0.55 + 0.4 * (index % 2), 0.95 - 0.3 * (index // 2 % 2)
    )
    return round(255 * red), round(255 * green), round(255 * blue)
