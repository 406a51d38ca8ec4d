"""Signs the manifest of a model folder with a key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zoo.folder.model_folder import ModelFolder
from zoo.folder.signature import sign
from zoo.loading import find_folder

__all__ = ["Arguments", "run"]


@dataclass(frozen=True)
class Arguments:
    """Verifies every file, signs the manifest and writes MANIFEST.sig; zoo verify --key checks it.

    A pair of keys: openssl ecparam -name prime256v1 -genkey -noout -out private.pem, and then
    openssl ec -in private.pem -pubout -out public.pem.
    """

    folder: Annotated[str, tyro.conf.Positional]
    """Model folder or installed model."""
    key: Path
    """Private elliptic-curve key in PEM, without a password."""


def run(arguments: Arguments) -> int:
    """Signs the folder."""
    folder = ModelFolder.open(find_folder(arguments.folder))
    path = sign(folder, arguments.key)
    print(f"wrote {path}, over the hashes of {len(folder.manifest)} files")
    return 0
