"""Finding the files of a data set in its folder."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import InputError

__all__ = ["first_folder", "visible_files"]


def visible_files(folder: Path, pattern: str) -> list[Path]:
    """The files under `folder` that match `pattern`, sorted, without hidden ones.

    Archives packed on macOS contain a `._NAME.png` next to every file; these match `*.png` but are not images.
    """
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def first_folder(root: Path, candidates: tuple[str, ...], what: str) -> Path:
    """The first of `candidates` that is a folder under `root`.

    Raises:
        InputError: If there is none; the message lists the candidates.
    """
    for candidate in candidates:
        if (root / candidate).is_dir():
            return root / candidate
    looked = " or ".join(f"{candidate}/" for candidate in candidates)
    found = ", ".join([path.name for path in visible_files(root, "*")][:6]) or "nothing"
    raise InputError(f"{root} is not {what}: looked for {looked} in it, found {found}")
