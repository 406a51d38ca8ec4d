"""The built wheel works outside the repository, where `./zoo` does not shadow it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.wheel
MAX_WHEEL_BYTES = 80_000_000


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


def run(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)


def test_every_package_is_there_and_comes_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    program = (
        "import importlib, json, zoo; names = ['zoo', 'zoo.export', 'zoo.evaluate', 'zoo.training', 'zoo.demo', "
        "'zoo.model_cards', 'zoo.encoders.vit', 'zoo.heads.fpn', 'zoo.data', 'zoo.synthetic', 'zoo.commands.list']; "
        "print(json.dumps([importlib.import_module(n).__file__ for n in names]))"
    )
    result = run(installed, tmp_path, "-c", program)
    assert result.returncode == 0, result.stderr
    assert all(Path(file).is_relative_to(installed) for file in json.loads(result.stdout))


def test_the_command_predicts_with_a_bundled_model(installed: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (70, 50), (90, 120, 150)).save(tmp_path / "street.png")
    name = "supervised-resnet18w48-synthetic.fpn-synthetic"
    result = run(installed, tmp_path, "-m", "zoo.cli", "predict", name, "street.png", "--out", "out")
    assert result.returncode == 0, result.stderr
    labels = Image.open(tmp_path / "out" / "street.png")
    assert labels.mode == "L"
    assert labels.size == (70, 50)
    assert json.loads((tmp_path / "out" / "street.json").read_text())["model"] == name


def test_budget_and_contents(installed: Path) -> None:
    (wheel,) = installed.parent.glob("*.whl")
    assert wheel.stat().st_size < MAX_WHEEL_BYTES
    names = zipfile.ZipFile(wheel).namelist()
    for model in {name.split("/")[2] for name in names if name.startswith("zoo/models/")}:
        for file in ("config.json", "MANIFEST.json", "LICENSE", "README.md", "metrics.json", "model.safetensors"):
            assert f"zoo/models/{model}/{file}" in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "runs/"))]
