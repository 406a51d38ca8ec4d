"""For all tests: an empty directory of installed models, so that those of whoever runs the tests play no part."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_installed_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("ZOO_HOME")
    os.environ["ZOO_HOME"] = str(tmp_path_factory.mktemp("zoo-home"))
    yield
    if before is None:
        del os.environ["ZOO_HOME"]
    else:
        os.environ["ZOO_HOME"] = before
