"""The folders import each other only in the directions that the design allows."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "zoo": {"zoo"},
    "export": {"zoo", "evaluate", "export"},
    "evaluate": {"zoo", "evaluate"},
    "training": {"zoo", "evaluate", "training"},
    "demo": {"zoo", "evaluate", "export", "demo"},
    "model_cards": {"model_cards"},
}
WORLD = ("shapes", "scene", "models", "rendering", "sensors", "truth", "frames", "layouts", "previews")
"""Sub-packages of `zoo.synthetic` in the order of its pipeline: each may use only itself and those before it."""
LIGHT = {"torch", "timm", "torchvision", "onnxruntime", "openvino", "matplotlib", "gradio", "embreex", "tyro", "rich"}


def folder_of(module: str) -> str | None:
    """The top folder that a module of ours lies in; `None` for anybody else's."""
    parts = module.split(".")
    if parts[0] != "zoo":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "zoo"


def imports_of(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_follow_the_arrows(folder: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (ROOT / folder).rglob("*.py")
        for module in imports_of(path.read_text(encoding="utf-8"))
        if folder_of(module) not in {None, *ALLOWED[folder]}
    }
    # The command table names modules of the other folders as strings; that is no import.
    assert not wrong


def test_the_arrow_test_sees_a_wrong_arrow() -> None:
    assert {folder_of(m) for m in imports_of("from zoo.evaluate import metrics\nimport zoo.frame")} == {
        "evaluate",
        "zoo",
    }
    assert {folder_of(m) for m in imports_of("from zoo import export")} == {"zoo", "export"}


def wrong_turns(package: str, source: str) -> set[str]:
    """Modules of the synthetic world that `source`, a module in its sub-package `package`, must not import."""
    before = WORLD[: WORLD.index(package) + 1]
    inside = (module for module in imports_of(source) if module.split(".")[:2] == ["zoo", "synthetic"])
    return {module for module in inside if module != "zoo.synthetic" and module.split(".")[2] not in before}


def test_the_world_uses_only_earlier_steps_of_its_pipeline() -> None:
    folder = ROOT / "zoo" / "synthetic"
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == set(WORLD)
    assert {path.name for path in folder.glob("*.py")} == {"__init__.py", "command.py", "embedded.py"}
    wrong = {
        f"{path.relative_to(ROOT)} imports {module}"
        for package in WORLD
        for path in (folder / package).rglob("*.py")
        for module in wrong_turns(package, path.read_text(encoding="utf-8"))
    }
    assert not wrong


def test_the_pipeline_test_sees_a_wrong_turn() -> None:
    assert not wrong_turns("models", "from zoo.synthetic.scene.types import Scene\nimport zoo.synthetic.shapes.mesh")
    assert wrong_turns("models", "from zoo.synthetic.rendering.light import Light") == {
        "zoo.synthetic.rendering.light",
        "zoo.synthetic.rendering.light.Light",
    }
    assert wrong_turns("scene", "from zoo.synthetic import models") == {"zoo.synthetic.models"}


def unexplained(source: str, most: int = 80) -> list[str]:
    """Functions of more than `most` lines without a comment right above them."""
    lines = source.splitlines()
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return [
        node.name
        for node in functions
        if (node.end_lineno or 0) - node.lineno >= most and not lines[node.lineno - 2].lstrip().startswith("#")
    ]


def test_long_functions_of_the_world_give_a_reason() -> None:
    body = "\n".join(["def f():", *["    pass"] * 80])
    assert unexplained(body) == ["f"]
    assert not unexplained(f"# A table.\n{body}")
    folder = ROOT / "zoo" / "synthetic"
    long = {path.name: unexplained(path.read_text(encoding="utf-8")) for path in folder.rglob("*.py")}
    assert not {name: functions for name, functions in long.items() if functions}


def test_listed_packages_are_those_on_disk() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = set()
    for folder in ALLOWED:
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            on_disk.add(".".join(parts if folder == "zoo" else ("zoo", *parts)))
    assert set(settings["packages"]) == on_disk
    assert settings["package-dir"] == {"zoo": "zoo", **{f"zoo.{f}": f for f in ALLOWED if f != "zoo"}}


def test_importing_zoo_is_light() -> None:
    program = (
        "import sys, json, zoo; zoo.list_models(); print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert not LIGHT & set(loaded)


def test_public_names_are_not_lost() -> None:
    import zoo

    stored = {
        "CameraFrame Condition Frame InputError IntegrityError MissingExtraError NotReleasedError Predictor "
        "Segmentation2D Sweep create info list_models load"
    }
    assert set(zoo.__all__) == set(" ".join(stored).split())
    for name in zoo.__all__:
        assert getattr(zoo, name) is not None


def test_texts_name_sources_that_a_reader_can_find() -> None:
    """No numbers of a private collection of papers, and in what users read no folder that only a test machine has."""
    texts = [path for folder in (*ALLOWED, "docs", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.*")]
    texts += ROOT.glob("*.md")
    # what a model folder records is the command as it was run
    texts = [path for path in texts if path.suffix in (".py", ".md", ".toml", ".j2") and "models" not in path.parts]
    assert len(texts) > 150
    number = re.compile(r"\bpapers?[ /]0\d\d", re.IGNORECASE)
    private = [path for path in texts if number.search(path.read_text(encoding="utf-8"))]
    assert not private
    for_users = [path for path in texts if "tests" not in path.parts and path.name != "CONTRIBUTING.md"]
    for_users = [path for path in for_users if path.parent.name != "model_cards"]  # they repeat what folders record
    assert not [path for path in for_users if "shared/real" in path.read_text(encoding="utf-8")]
