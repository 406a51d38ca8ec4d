"""Kinds of places, seasons and density as a user chooses them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from zoo.cli import main
from zoo.errors import InputError
from zoo.synthetic.scene.choices import Choices
from zoo.synthetic.scene.describe import describe
from zoo.synthetic.scene.kinds import PLACE_KINDS
from zoo.synthetic.scene.types import MOVABLE, Scene
from zoo.synthetic.shapes.surfaces import Material
from zoo.synthetic.shapes.templates import template

VEHICLES = ("car", "truck", "bus", "train", "motorcycle", "bicycle")


def movable(scene: Scene) -> Counter:
    return Counter(thing.kind for thing in scene.things if thing.kind in MOVABLE)


def test_no_choice_is_the_place_of_the_seed():
    for seed in (3, 70):
        assert describe(seed, Choices()) == describe(seed)
        assert describe(seed, Choices(kinds=tuple(PLACE_KINDS), seasons=("winter", "autumn", "spring", "summer"))) == (
            describe(seed)
        )


def test_kinds_and_seasons_are_those_chosen():
    scenes = [describe(seed, Choices(kinds=("village", "suburb"), seasons=("winter",))) for seed in range(16)]
    assert {scene.kind for scene in scenes} == {"village", "suburb"}
    assert {scene.season for scene in scenes} == {"winter"}
    for kind in PLACE_KINDS:
        assert describe(5, Choices(kinds=(kind,))).kind == kind


def test_trees_are_bare_in_winter_and_green_in_summer():
    def leafy(season: str) -> float:
        trees = [
            template(thing.kind, thing.variant)
            for seed in range(4)
            for thing in describe(seed, Choices(kinds=("residential",), seasons=(season,))).things
            if thing.kind == "tree"
        ]
        return sum(bool((mesh.material == Material.FOLIAGE).any()) for mesh in trees) / len(trees)

    assert leafy("winter") < 0.2
    assert leafy("summer") > 0.95
    # Leaves in autumn are more red than green, in summer more green than red.
    autumn, summer = (describe(8, Choices(seasons=(season,))).foliage for season in ("autumn", "summer"))
    assert sum(r for r, _, _ in autumn) > sum(g for _, g, _ in autumn)
    assert sum(r for r, _, _ in summer) < sum(g for _, g, _ in summer)


def test_density_is_how_many_there_are():
    def count(density: float, kinds: tuple[str, ...]) -> int:
        return sum(
            sum(movable(describe(seed, Choices(kinds=("town",), density=density)))[kind] for kind in kinds)
            for seed in range(6)
        )

    for kinds in (VEHICLES, ("person",)):
        none, sparse, normal, dense = (count(density, kinds) for density in (0.0, 0.4, 1.0, 2.0))
        assert none == 0
        assert 1.5 * sparse < normal
        assert 1.15 * normal < dense  # less than twice: pavements and roads fill up


def test_text_of_the_options():
    assert Choices.parse() == Choices()
    found = Choices.parse("village, suburb", "winter", "sparse")
    assert found == Choices(kinds=("village", "suburb"), seasons=("winter",), density=0.4)
    assert Choices.parse(density="0.25").density == 0.25
    assert Choices.parse("city,city").kinds == ("city",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "vilage"], "unknown kind of place 'vilage'; closest: village; choose from town, residential, "),
        (["--kind", "village,"], "unknown kind of place ''; choose from"),
        (["--season", "sommer"], "unknown season 'sommer'; closest: summer; choose from summer, spring, autumn"),
        (["--density", "dens"], "density 'dens'; closest: dense: choose from sparse, normal, dense, or a number"),
        (["--density=-1"], "density -1 is outside 0 (nobody) to 4"),
        (["--density", "1e9"], "density 1e+09 is outside 0"),
        (["--density", "nan"], "choose from sparse, normal, dense, or a number from 0 to 4"),
    ],
)
def test_bad_input(words: list[str], message: str, tmp_path: Path, capsys):
    command = ["synthetic", "--layout", "cityscapes", "--frames", "1", *words, "--out", str(tmp_path / "data")]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_values_that_are_no_choice():
    with pytest.raises(InputError, match="unknown season 'monsoon'"):
        Choices(seasons=("monsoon",))
    with pytest.raises(InputError, match="density nan is outside 0"):
        Choices(density=float("nan"))


def test_record_and_resume(tmp_path: Path, capsys):
    pytest.importorskip("embreex", reason="the extra `synthetic` is not installed")
    out = tmp_path / "data"
    command = ["synthetic", "--layout", "cityscapes", "--frames", "1", "--size", "24x48", "--seed", "56", "--workers"]
    command += ["1", "--out", str(out)]
    assert main([*command, "--kind", "village", "--season", "winter", "--density", "sparse"]) == 0
    record = json.loads((out / "synthetic.json").read_text())
    assert (record["kind"], record["season"], record["density"]) == (["village"], ["winter"], 0.4)
    capsys.readouterr()
    assert main([*command, "--kind", "village", "--season", "winter", "--density", "0.4", "--resume"]) == 0
    for other, message in (
        (["--kind", "village", "--season", "winter"], "was started with density 0.4, not 1.0"),
        (["--kind", "suburb", "--season", "winter", "--density", "0.4"], "kind ['village'], not ['suburb']"),
        (["--kind", "village", "--density", "0.4"], "season ['winter'], not []"),
    ):
        assert main([*command, *other, "--resume"]) == 2
        assert message in capsys.readouterr().err
