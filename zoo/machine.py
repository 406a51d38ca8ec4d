"""Descriptions of the machine and the installed packages, recorded with every measurement."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from zoo.engines import ENGINES

__all__ = ["machine", "packages", "processor", "versions"]

_ALWAYS = ("perception-zoo", "numpy", "pillow")
_FOREIGN = ("torchvision", "transformers")
_EXPORT = ("onnx", "onnxscript")


def machine() -> dict[str, Any]:
    """Processor, number of CPUs available to this process, operating system and Python version."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "processor": processor(),
        "cpus": len(affinity(0)) if affinity else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def packages(*, loaded: bool = False) -> dict[str, str]:
    """Versions of the installed packages that can change a result.

    Args:
        loaded: Of the engines, list only those that this process has imported, and leave out the exporter.
    """
    engines = [row for row in ENGINES.values() if not loaded or row.package in sys.modules]
    names = [name for row in engines for name in row.distributions]
    if loaded:  # models of other projects bring their own packages
        return versions([*_ALWAYS, *names, *(name for name in _FOREIGN if name in sys.modules)])
    return versions([*_ALWAYS, *names, *_EXPORT])


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those of the named packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Model name of the processor, or its architecture if the system does not report the model."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            names = [line.split(":", 1)[1].strip() for line in handle if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
