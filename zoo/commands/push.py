"""Publishes a model folder on the Hugging Face Hub in one commit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from zoo.errors import InputError
from zoo.folder.model_folder import ModelFolder
from zoo.hub import HUB_PREFIX, parse_repository
from zoo.loading import find_folder
from zoo.pushing import PushPlan, plan_push, push

__all__ = ["Arguments", "run"]


@dataclass(frozen=True)
class Arguments:
    """Publishes a model folder on the Hugging Face Hub in one commit.

    Every file must match the manifest and have measured figures, every exported file a parity record, and the licence
    chain must be complete. Engines and records of one device are left out. The token is read from HF_TOKEN.
    """

    folder: Annotated[str, tyro.conf.Positional]
    """Model folder."""
    repo: Annotated[str, tyro.conf.arg(metavar="ORG/NAME")]
    """Repository on the Hub. It is created if it does not exist."""
    private: bool = False
    """Create the repository as a private one."""
    dry_run: bool = False
    """Only check the folder and list what would be pushed."""
    message: str | None = None
    """Commit message."""
    eval_results: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="KIND=ORG/NAME")] = ()
    """Also send the scores on this kind of data as .eval_results for this benchmark, a data set on the Hub, for example
    camvid=ORG/NAME. Can be repeated."""


def run(arguments: Arguments) -> int:
    """Prints what is pushed, pushes it, and prints how to load it."""
    repository = parse_repository(arguments.repo)
    plan = plan_push(ModelFolder.open(find_folder(arguments.folder)), _datasets(arguments.eval_results))
    _print_plan(plan, repository)
    if arguments.dry_run:
        print("dry run: nothing was sent")
        return 0
    pushed = push(plan, repository, private=arguments.private, message=arguments.message)
    for file in pushed.removed:
        print(f"  removed from the repository: {file}")
    print(f"{pushed.url}")
    print(f'load it with zoo.load("{HUB_PREFIX}{repository}", revision="{pushed.commit}")')
    return 0


def _datasets(words: Sequence[str]) -> dict[str, str]:
    """Data sets on the Hub by kind, from the values of `--eval-results`."""
    found: dict[str, str] = {}
    for word in words:
        kind, equals, name = word.partition("=")
        if not equals or not re.fullmatch("[a-z0-9][a-z0-9_-]*", kind):
            raise InputError(f"--eval-results {word!r}: expected KIND=ORG/NAME, for example camvid=ORG/NAME")
        if kind in found:
            raise InputError(f"--eval-results names {kind} twice; give each kind of data once")
        found[kind] = parse_repository(name)
    return found


def _print_plan(plan: PushPlan, repository: str) -> None:
    total = sum(map(plan.size, plan.files))
    print(f"{plan.name} to {repository}: {len(plan.files)} files, {total:,} bytes")
    for file in sorted(plan.files):
        print(f"  {file}: {plan.size(file):,} bytes")
    for file, reason in plan.left_out.items():
        print(f"  left out: {file}: {reason}")
