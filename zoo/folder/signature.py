"""Signatures of model folders, made and checked with the OpenSSF model-signing package and a key on disk.

The signature is over `MANIFEST.json`, which has the hash of every other file, and lies next to it in `MANIFEST.sig`.
The manifest does not list it, nor the records of devices in `devices/`, so neither is signed. What is signed and
checked are the bytes that were read, never a path, so it does not matter where links in a cache lead.
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

from zoo.errors import InputError, IntegrityError, require
from zoo.files import read_regular, write_bytes
from zoo.folder.model_folder import MANIFEST, SIGNATURE, ModelFolder

__all__ = ["check_signature", "sign"]

_LIMIT = 1024 * 1024  # bytes of a key
_WRONG_KEY = (ValueError, TypeError, AttributeError, OSError)
"""What model-signing raises for a key that it cannot use; AttributeError for one that has no curve."""


def sign(folder: ModelFolder, private_key: Path) -> Path:
    """Verifies every file, signs the manifest and writes `MANIFEST.sig`; returns its path.

    Args:
        folder: The model.
        private_key: Elliptic-curve key in PEM, without a password.

    Raises:
        IntegrityError: If a file differs from the manifest.
        InputError: If the key cannot be used, or the folder cannot be written.
        MissingExtraError: If model-signing is not installed.
    """
    folder.refuse_package("sign")
    folder.verify()
    config = _package().signing.Config()
    with tempfile.TemporaryDirectory() as temporary:
        model, signature = _only_manifest(folder, Path(temporary))
        try:
            config.use_elliptic_key_signer(private_key=_key(private_key)).sign(model, signature)
        except _WRONG_KEY as error:
            raise InputError(f"{private_key} cannot sign: {error}; an elliptic-curve key in PEM is needed") from error
        write_bytes(folder.path / SIGNATURE, signature.read_bytes())
    return folder.path / SIGNATURE


def check_signature(folder: ModelFolder, public_key: Path) -> None:
    """Checks the signature of the manifest; `ModelFolder.verify` then checks every file against the manifest.

    Args:
        folder: The model.
        public_key: Elliptic-curve key in PEM.

    Raises:
        IntegrityError: If the folder is not signed, or not with this key, or the manifest was changed since.
        InputError: If the key cannot be read.
        MissingExtraError: If model-signing is not installed.
    """
    content = folder.signature()
    if content is None:
        raise IntegrityError(f"{folder.path} is not signed: it has no {SIGNATURE}")
    config, key = _package().verifying.Config(), _key(public_key)
    try:
        config.use_elliptic_key_verifier(public_key=key)
    except _WRONG_KEY as error:
        raise InputError(
            f"{public_key} is not a public key: {error}; an elliptic-curve key in PEM is needed"
        ) from error
    with tempfile.TemporaryDirectory() as temporary:
        model, signature = _only_manifest(folder, Path(temporary))
        signature.write_bytes(content)
        try:
            config.verify(model, signature)
            _require_manifest(content)
        except Exception as error:  # a damaged signature can raise a dozen kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise IntegrityError(
                f"{folder.path}: {SIGNATURE} is not a signature of its {MANIFEST} by {public_key} ({reason})"
            ) from error


def _only_manifest(folder: ModelFolder, temporary: Path) -> tuple[Path, Path]:
    """A folder that holds nothing but the manifest's bytes, and a path for the signature."""
    model = temporary / "model"
    model.mkdir()
    (model / MANIFEST).write_bytes(folder.manifest_bytes())
    return model, temporary / SIGNATURE


def _require_manifest(signature: bytes) -> None:
    """Raises a `ValueError` unless the signature is of the manifest: one of an empty folder would fit any other."""
    payload = json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    names = [resource["name"] for resource in payload["predicate"]["resources"]]
    if names != [MANIFEST]:
        raise ValueError(f"it signs {', '.join(names) or 'nothing'}")


def _key(path: Path) -> Path:
    """The path of a key that can be read."""
    try:
        read_regular(path, _LIMIT)
    except FileNotFoundError as error:
        raise InputError(f"the key {path} does not exist") from error
    return path


def _package() -> Any:
    try:
        import model_signing
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        raise require("model-signing", "sign", "a signature") from error
    return model_signing
