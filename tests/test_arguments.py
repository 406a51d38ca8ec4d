"""Command lines: every mistake in every command ends with one line and exit code 2; what is right is read as tyro does.

The options of each command are written out here, so that a mistake in reading the dataclasses would show.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tyro

from zoo.arguments import parse_arguments
from zoo.cli import COMMANDS, main
from zoo.errors import InputError


@dataclass(frozen=True)
class Command:
    """A command line that would run, and what may be wrong with it."""

    words: str
    required: tuple[str, ...]  # as messages name them, in the order in which they are missed
    numbers: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    choices: dict[str, str] = field(default_factory=dict)  # option to one of its choices
    open_ended: bool = False  # takes any number of positional words


LINES = {
    "list": Command("list x", (), texts=("--task", "--licence"), switches=("--json", "--released", "--commercial")),
    "info": Command("info m", ("MODEL",), switches=("--json",)),
    "install": Command("install f", ("FOLDER",), texts=("--as",), switches=("--force",)),
    "uninstall": Command("uninstall m", ("NAME",)),
    "card": Command("card f", ("FOLDER",), switches=("--check", "--pictures")),
    "sign": Command("sign f --key k", ("FOLDER", "--key")),
    "copy": Command("copy m x", ("MODEL", "TO")),
    "predict": Command(
        "predict m a.png --out o",
        ("MODEL", "SOURCES", "--out"),
        numbers=("--threads", "--alpha"),
        pairs=("--window", "--window-stride"),
        texts=("--engine", "--device", "--precision", "--file", "--description"),
        switches=("--whole",),
        open_ended=True,
    ),
    "evaluate": Command(
        "evaluate m --data synthetic",
        ("MODELS",),
        numbers=("--threads", "--limit", "--readers"),
        texts=("--engine", "--device", "--file", "--source", "--out", "--submission"),
        switches=("--record", "--fresh", "--report"),
        choices={"--split": "train"},
        open_ended=True,
    ),
    "push": Command(
        "push f --repo o/n", ("FOLDER", "--repo"), texts=("--message",), switches=("--private", "--dry-run")
    ),
    "export": Command(
        "export m --out o",
        ("MODEL", "--out"),
        texts=("--dynamic", "--size", "--frames"),
        switches=("--uint8-input",),
        choices={"--format": "onnx", "--precision": "fp16"},
    ),
    "verify": Command(
        "verify f",
        ("FOLDER",),
        numbers=("--threads",),
        texts=("--engine", "--device", "--frames", "--key"),
        switches=("--record",),
    ),
    "benchmark": Command(
        "benchmark m",
        ("MODEL",),
        numbers=("--threads", "--runs", "--warmup"),
        texts=("--engine", "--device", "--file", "--source", "--size", "--out"),
        switches=("--whole", "--record"),
    ),
    "deploy": Command(
        "deploy f",
        ("FOLDER",),
        numbers=("--threads", "--runs"),
        texts=("--engine", "--device", "--key", "--name"),
    ),
    "synthetic": Command(
        "synthetic --layout acdc --frames 2 --out o",
        ("--layout", "--out"),
        numbers=("--scenes", "--seed", "--severity", "--sweeps", "--workers"),
        texts=("--size", "--split", "--conditions", "--rig", "--drive"),
        switches=("--exact", "--resume"),
    ),
    "train": Command(
        "train segmenter --model m --data camvid=x --out o",
        ("--model", "--data", "--out"),
        numbers=("--steps", "--batch", "--learning-rate", "--seed", "--mixture", "--augmentation.flip"),
        pairs=("--crop", "--augmentation.scale"),
        texts=("--init", "--device"),
        switches=("--frozen-encoder", "--cache", "--resume"),
        choices={"--optimiser": "adamw", "--precision": "bf16-mixed", "--preset": "cpu"},
    ),
}


def wrong_lines(command: Command) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Wrong command lines with what their message must hold."""
    name = "train segmenter" if command.words.startswith("train") else command.words.split()[0]
    base, see = command.words, f"zoo {name} --help"
    if command.required:
        yield name, ("missing", *command.required, see)
    yield f"{base} --nonsense", ("unknown option --nonsense", see)
    yield f"{base} --nonsense=3", ("unknown option --nonsense", see)
    yield f"{base} -q", ("unknown option -q", see)
    if not command.open_ended:
        yield f"{base} surplus surplus2", ("unexpected argument 'surplus", see)
    for option in (*command.numbers, *command.pairs, *command.texts, *command.choices):
        yield f"{base} {option}", (option, "expects", "no value", see)
        yield f"{base} {option} --nonsense", (option, "expects", "no value", see)
        yield f"{base} {option[:-1]}x 1", (f"unknown option {option[:-1]}x", f"closest: {option}")
    for option in command.numbers:
        yield f"{base} {option} two", (option, "number, got 'two'", see)
        yield f"{base} {option}=", (option, "number, got ''", see)
        yield f"{base} {option} 1x", (option, "number, got '1x'", see)
        if option != "--mixture":  # which may be given several times
            yield f"{base} {option} 1 {option} 1", (f"{option} is given more than once",)
    for option in command.pairs:
        yield f"{base} {option} 3", (option, "2", "numbers, got '3'", see)
        yield f"{base} {option} 3 x", (option, "2", "numbers, got '3' 'x'", see)
        yield f"{base} {option} 3 4 {option} 3 4", (f"{option} is given more than once",)
    for option in command.texts:
        yield f"{base} {option} a {option} a", (f"{option} is given more than once",)
    for option, choice in command.choices.items():
        yield f"{base} {option} {choice}s", (option, "one of", choice, f"got '{choice}s'", f"closest: {choice}", see)
        yield f"{base} {option} {choice} {option} {choice}", (f"{option} is given more than once",)
    for option in command.switches:
        yield f"{base} {option}=maybe", (f"{option} takes no value, got 'maybe'",)
        yield f"{base} {option} {option}", (f"{option} is given more than once",)
        yield f"{base} {option} --no-{option[2:]}", (f"{option} is given more than once",)


def test_the_table_has_every_command() -> None:
    assert set(LINES) == set(COMMANDS)


@pytest.mark.parametrize("name", LINES)
def test_every_wrong_command_line_gives_one_line(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    for line, parts in wrong_lines(LINES[name]):
        assert main(line.split()) == 2, line
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1, (line, captured.err)
        assert captured.err.startswith("zoo: error: "), (line, captured.err)
        assert captured.out == "", line
        for part in parts:
            assert part in captured.err, (line, captured.err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", LINES)
def test_help_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "segmenter"] if name == "train" else [name]
    for flag in ("--help", "-h"):
        assert main([*words, flag]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        for option in (*LINES[name].texts, *LINES[name].pairs, *LINES[name].switches):
            assert option in captured.out


def test_no_command_and_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (([], "zoo --help"), (["train"], "recipes: segmenter"), (["train", "segmentr"], "segmenter")):
        assert main(words) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.err.count("\n") == 1
        assert captured.out == ""


@dataclass(frozen=True)
class Inner:
    flip: float = 0.5
    scale: tuple[float, float] = (0.5, 2.0)


@dataclass(frozen=True)
class Outer:
    model: Annotated[str, tyro.conf.Positional]
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path
    number: int = 3
    split: Literal["train", "val"] = "val"
    window: tuple[int, int] | None = None
    threads: int | None = None
    whole: bool = False
    report: bool = True
    data: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KIND")] = ()
    inner_part: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.number == 13:
            raise InputError(f"--number {self.number} is unlucky; " + "give another one, " * 20)


def parse(line: str) -> Any:
    return parse_arguments(Outer, line.split(), prog="zoo test")


@pytest.mark.parametrize(
    "line",
    [
        "m a b --out o",
        "--out o m a",
        "m a --out=o --number=-4",
        "m a --out -3 --number -4 --window 3 4",
        "m a --out o --threads None",
        "m a --out o --threads 2 --split train --whole --no-report",
        "m a --out o --data x --data y=z --inner-part.flip 1e-3 --inner_part.scale .5 2",
    ],
)
def test_correct_lines_are_read_as_tyro_reads_them(line: str) -> None:
    assert parse(line) == tyro.cli(Outer, args=line.split())


def test_positional_words_may_stand_anywhere() -> None:
    assert parse("m a --out o b --whole c") == parse("m a b c --out o --whole")


def test_the_dataclasses_own_checks_keep_their_words() -> None:
    with pytest.raises(InputError, match=r"^--number 13 is unlucky; (give another one, ){20}$"):
        parse("m a --out o --number 13")


def test_what_only_tyro_finds_wrong_is_one_line_too() -> None:
    @dataclass(frozen=True)
    class Strange:
        table: dict[str, int]

    with pytest.raises(InputError) as caught:
        parse_arguments(Strange, ["--table", "a", "b"], prog="zoo test")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("Error parsing --table: ")
    assert not set("│╭╰─") & set(message)
    assert message.endswith("see zoo test --help")


def test_one_line_from_a_fresh_process() -> None:
    words = ["predict", "m", "a.png", "--out", "o", "--threads", "two"]
    program = "import sys; from zoo.cli import main; sys.exit(main(sys.argv[1:]))"
    result = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "zoo: error: --threads expects a whole number, got 'two'; see zoo predict --help\n"
