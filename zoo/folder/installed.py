"""Models that the user installed: verified copies of model folders in the user's own directory, found by name.

They lie in `$ZOO_HOME/models/NAME`; `ZOO_HOME` is `perception-zoo` in the user's data directory (`$XDG_DATA_HOME`, by
default `~/.local/share`) unless the environment sets it. A name of the catalogue is a promise about the weights, so it
can be filled only by a model with the entry's architecture, classes and training data. That is checked when a model is
installed and again whenever it is found, because anything could have been put into the directory since.
"""

from __future__ import annotations

import os
from pathlib import Path

from zoo.errors import InputError, closest
from zoo.files import remove_directory
from zoo.folder.catalogue import Entry, entries
from zoo.folder.model_folder import ModelFolder
from zoo.folder.schema import schema

__all__ = ["find_installed", "home", "install", "installed_names", "uninstall"]


def home() -> Path:
    """The user's directory of this package; it need not exist.

    Raises:
        InputError: If neither `ZOO_HOME` nor the user's home directory is known.
    """
    try:
        if given := os.environ.get("ZOO_HOME"):
            return Path(given).expanduser().absolute()
        data = os.environ.get("XDG_DATA_HOME", "")
        # A relative path in XDG_DATA_HOME is invalid and ignored (XDG Base Directory Specification).
        return (Path(data) if Path(data).is_absolute() else Path("~/.local/share").expanduser()) / "perception-zoo"
    except RuntimeError as error:
        raise InputError("the home directory is unknown; set ZOO_HOME to a folder for installed models") from error


def installed_names() -> list[str]:
    """Names of the installed models, sorted. Anything in the directory that cannot be a model is ignored.

    Raises:
        InputError: If the directory cannot be read.
    """
    try:
        with os.scandir(home() / "models") as found:
            return sorted(each.name for each in found if _is_name(each.name) and each.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{home() / 'models'} cannot be read: {error.strerror}; check ZOO_HOME") from error


def find_installed(name: str) -> Path | None:
    """The folder of the model installed as `name`, `None` if there is none.

    Raises:
        InputError: If a link or a file has its place, or a model that the catalogue's entry does not describe.
    """
    if not _is_name(name):
        return None
    path = home() / "models" / name
    try:
        if not os.path.lexists(path):
            return None
    except OSError:  # no permission
        return None
    _refuse_link(path)
    if name in entries():
        _refuse_other_model(ModelFolder.open(path), entries()[name])
    return path


def install(folder: ModelFolder, name: str | None = None, *, replace: bool = False) -> ModelFolder:
    """Copies a model folder into the user's directory, every file verified, in one step.

    The files are those of `folder`, unchanged, so a signature stays valid. Its own name in `config.json` stays too.

    Args:
        folder: The model.
        name: Name to install it as; its own by default.
        replace: Replace a model of that name.

    Raises:
        InputError: If the name is invalid, belongs to a released model or to an entry of the catalogue that describes
            another model, or is taken; if the folder cannot be written.
        IntegrityError: If a file differs from the manifest.
    """
    name = folder.name if name is None else name
    _check_name(name)
    if name in entries():
        found = entries()[name]
        if found.released:
            raise InputError(f"{name} is the name of a released model; choose another one with --as NAME")
        _refuse_other_model(folder, found)
    target = home() / "models" / name
    if os.path.lexists(target):
        _refuse_link(target)
        if folder.path.resolve() == target.resolve():
            raise InputError(f"{target} is where {name} is installed already")
        if not replace:
            raise InputError(f"{name} is installed already, in {target}; --force replaces it, --as NAME keeps both")
    return folder.copy_to(target, replace=replace, signed=True)


def uninstall(name: str) -> Path:
    """Removes an installed model; returns the folder that it was in.

    Raises:
        InputError: If no model of that name is installed, or it cannot be removed.
    """
    path = home() / "models" / name
    if not _is_name(name) or not os.path.lexists(path):
        names = installed_names()
        raise InputError(
            f"no model is installed as {name!r}{closest(name, names)}; installed: {', '.join(names) or 'none'}"
        )
    _refuse_link(path)
    remove_directory(path)
    return path


def _is_name(name: str) -> bool:
    return next(schema("config").problems(name, "name"), None) is None


def _check_name(name: str) -> None:
    problem = next(schema("config").problems(name, "name"), None)
    if problem is not None:
        raise InputError(f"the name {problem}")


def _refuse_link(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        kind = "a link" if path.is_symlink() else "a file"
        raise InputError(f"{path} is {kind}; an installed model is a folder of its own: remove it and install again")


def _refuse_other_model(folder: ModelFolder, entry: Entry) -> None:
    """Raises an `InputError` unless the catalogue's entry describes this model, by its own record of its training."""
    recorded = _recorded_data(folder)
    wrong = entry.differences(folder.config["architecture"], folder.task.classes, recorded)
    if folder.config["task"] != entry.task:
        wrong.insert(0, "task")
    if wrong:
        raise InputError(
            f"{folder.path} is not {entry.name}: not the same {', '.join(wrong)} as in the catalogue "
            f"(trained on {', '.join(recorded) or 'unrecorded data'}; {entry.name} on {', '.join(entry.training_data)})"
            "; install it under another name with --as NAME"
        )


def _recorded_data(folder: ModelFolder) -> list[str]:
    """Names of the data that the run recorded having read, and ImageNet where initial weights brought it in.

    `training_data` is only a list of names; `provenance.trained_on` is written from the frames that were read, so a
    rendered data set in the layout of a recorded one has the renderer's name there.
    """
    from zoo.data.terms import IMAGENET, IMAGENET_21K  # not needed for prediction, and slows down the cold start

    trained_on = folder.config.get("provenance", {}).get("trained_on", [])
    names = ["unrecorded data" if each.get("unrecorded") else each.get("name", "") for each in trained_on]
    # timm's weights are downloaded and not trained here, so no frames of theirs can be recorded.
    downloaded = {IMAGENET.name, IMAGENET_21K.name}
    names += [name for name in folder.config.get("training_data", ()) if name in downloaded]
    return list(dict.fromkeys(names))
