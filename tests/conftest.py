"""For all tests: no installed models of whoever runs the tests, and one thread in each of several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything imports torch or NumPy
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _no_installed_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("ZOO_HOME")
    os.environ["ZOO_HOME"] = str(tmp_path_factory.mktemp("zoo-home"))
    yield
    if before is None:
        del os.environ["ZOO_HOME"]
    else:
        os.environ["ZOO_HOME"] = before
