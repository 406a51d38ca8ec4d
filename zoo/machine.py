"""Descriptions of the machine and the installed packages, recorded with every measurement."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["machine", "packages", "processor", "versions"]

_PACKAGES = (
    "perception-zoo",
    "numpy",
    "pillow",
    "torch",
    "timm",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
)
"""Packages whose versions can change a result."""


def machine() -> dict[str, Any]:
    """Processor, number of CPUs available to this process, operating system and Python version."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "processor": processor(),
        "cpus": len(affinity(0)) if affinity else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def packages() -> dict[str, str]:
    """Versions of the installed packages that can change a result."""
    return versions(_PACKAGES)


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
