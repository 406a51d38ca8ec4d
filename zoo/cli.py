"""The `zoo` command line. Only the module of the command that runs is imported.

Exit codes: 0 success, 1 internal error, 2 invalid input or usage, 3 an exported file was rejected.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from zoo.errors import InputError, ParityError, SensorWarning, closest, require

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "list": ("zoo.commands.list", "list the models in the catalogue and the installed ones"),
    "info": ("zoo.commands.info", "show a model's description, licences and measured results"),
    "install": (
        "zoo.commands.install",
        "install a model folder, so that its name can be used like one of the catalogue",
    ),
    "uninstall": ("zoo.commands.uninstall", "remove an installed model"),
    "card": ("zoo.commands.card", "render the model card of a folder anew from its JSON files, or check it"),
    "sign": ("zoo.commands.sign", "sign the manifest of a model folder with a key"),
    "copy": ("zoo.commands.copy", "copy a model folder so that measurements and exports can be added to it"),
    "predict": ("zoo.commands.predict", "run a model on images or sweeps"),
    "evaluate": ("zoo.evaluate.command", "evaluate models per weather and light condition and write a report"),
    "export": ("zoo.export.command", "export a model to ONNX; the file is kept only if it agrees with the model"),
    "verify": ("zoo.export.verify", "check the hashes of a model folder and its exported files against their source"),
    "benchmark": ("zoo.export.benchmark", "measure the latency, throughput and memory of a model on each engine"),
    "deploy": (
        "zoo.export.deploy",
        "check a model folder on this device, measure it, and keep the record in the folder",
    ),
    "push": ("zoo.commands.push", "publish a model folder on the Hub in one commit"),
    "synthetic": ("zoo.synthetic.command", "render frames of the synthetic street world in the layout of a data set"),
    "train": ("zoo.training.command", "run a training recipe"),
}

# Commands import optional packages where they use them. A missing one is reported with the extra that installs it.
_EXTRA_OF = {
    "embreex": "synthetic",
    "gradio": "demo",
    "huggingface_hub": "hub",
    "jaxtyping": "torch",
    "model_signing": "sign",
    "lightning_fabric": "train",
    "onnx": "export",
    "onnxruntime": "onnx",
    "onnxscript": "export",
    "openvino": "openvino",
    "timm": "torch",
    "torch": "torch",
    "torchvision": "torch",
    "transformers": "hf",
}


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    more = "Run zoo COMMAND --help for details, zoo --version for the version."
    return f"usage: zoo COMMAND ...\n\ncommands:\n{rows}\n\n{more}"


def _version() -> str:
    from importlib.metadata import version

    return f"perception-zoo {version('perception-zoo')}"


def _run(words: Sequence[str]) -> int:
    if not words:
        raise InputError("no command given; zoo --help lists all commands")
    if words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        print(_version())
        return 0
    name, *rest = words
    if name not in COMMANDS:
        raise InputError(f"unknown command {name!r}{closest(name, COMMANDS)}; zoo --help lists all commands")
    try:
        module: Any = importlib.import_module(COMMANDS[name][0])
        if hasattr(module, "parse"):
            arguments = module.parse(rest)
        else:
            from zoo.arguments import parse_arguments

            arguments = parse_arguments(module.Arguments, rest, prog=f"zoo {name}", description=module.__doc__)
        return module.run(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _EXTRA_OF:
            raise
        raise require(package, _EXTRA_OF[package], f"zoo {name}") from error


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Our own warnings on one line; those of libraries with the line that issued them, as Python shows them."""
    if issubclass(category, SensorWarning):
        print("zoo: warning: " + " ".join(str(message).split()), file=sys.stderr)
    else:
        _PYTHON_SHOWS(message, category, *where, **more)


_PYTHON_SHOWS = warnings.showwarning


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _run(sys.argv[1:] if words is None else words)
    except InputError as error:
        print("zoo: error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except ParityError as error:
        print("zoo: refused: " + " ".join(str(error).split()), file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("zoo: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The program that reads our output has exited, as in `zoo list | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as exit_:  # after --help
        return exit_.code if isinstance(exit_.code, int) else 2
    except Exception:
        traceback.print_exc()
        print("zoo: internal error in perception-zoo; please report it with the traceback above", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
