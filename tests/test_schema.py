"""The validator against `jsonschema`, the published schemas against their files, and the strict JSON reader."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import zoo
from zoo.errors import InputError, IntegrityError
from zoo.folder.catalogue import BUNDLED, entries
from zoo.folder.schema import MAX_DEPTH, Schema, parse_json, schema

FOLDER = Path(zoo.__file__).parent / "folder"
DOCUMENTS = {"config": "config.json", "manifest": "MANIFEST.json", "metrics": "metrics.json", "parity": "parity.json"}
# The draft calls 1.0 an integer; ours does not, so the reference is told the same.
Reference = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)
SCALARS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.5,
    1.0,
    256,
    10**9,
    -(2**40),
    "",
    "x",
    "../x",
    "a" * 300,
    "\x1b[31m",
]


def published(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))


def bundled(name: str) -> Any:
    """The document of a bundled model, shortened, so that every part of it is mutated often."""
    path = next(path for folder in sorted(BUNDLED.iterdir()) if (path := folder / DOCUMENTS[name]).exists())
    document = json.loads(path.read_text(encoding="utf-8"))
    document.pop("provenance", None)
    if "rows" in document:
        document["rows"] = [document["rows"][0], document["rows"][-1]]
    for section, key in (("classes", "names"), ("classes", "colors")):
        if section in document:
            document[section][key] = document[section][key][:3]
    return document


def places(value: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """Every container and key of a document."""
    found = [] if found is None else found
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found.append((value, key))
        places(value[key], found)
    return found


def mutated(document: Any, generator: random.Random) -> Any:
    """A copy with one to three changes: a value of another kind, a key more, less or renamed, an entry twice."""
    document = copy.deepcopy(document)
    for _ in range(generator.randint(1, 3)):
        container, key = generator.choice(places(document) or [({"x": 1}, "x")])
        change = generator.randrange(7)
        if change == 0:
            container[key] = generator.choice(SCALARS)
        elif change == 1:
            container[key] = generator.choice([[], {}, [1, 2, 3], {"a": 1}, [container[key]], {"file": container[key]}])
        elif change == 2:
            del container[key]
        elif change == 3 and isinstance(container, dict):
            container[generator.choice(["extra", "../x", "pretrained", "A/b.c", ""])] = generator.choice(SCALARS)
        elif change == 4 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        elif change == 5 and isinstance(container[key], int | float) and not isinstance(container[key], bool):
            container[key] = container[key] * generator.choice([-1, 0, 100, 10**6, 0.5])
        else:
            other = generator.choice(places(document) or [({"x": 1}, "x")])
            container[key] = copy.deepcopy(other[0][other[1]])
    return document


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_validator_agrees_with_jsonschema_on_mutated_documents(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(published(name))
    reference, ours = Reference(published(name)), schema(name)
    generator = random.Random(name)
    original = bundled(name)
    assert reference.is_valid(original)
    assert not list(ours.problems(original))
    verdicts = {True: 0, False: 0}
    for _ in range(1000):
        document = mutated(original, generator)
        expected = reference.is_valid(document)
        found = next(ours.problems(document), None)
        assert expected == (found is None), (found, document)
        verdicts[expected] += 1
        if found is not None:
            assert str(found).isprintable(), "one line, no control characters"
            assert len(str(found)) < 1000
    assert min(verdicts.values()) > 50, "both verdicts are compared"


# One schema per keyword, and values on either side of what it allows.
KEYWORDS: list[tuple[dict[str, Any] | bool, list[Any]]] = [
    ({"type": "integer"}, [1, -1, True, "1", 1.5, None]),
    ({"type": ["number", "null"]}, [1, 1.5, None, False, "x"]),
    ({"type": "object"}, [{}, []]),
    ({"enum": [1, "a", None, [1, {"b": 2}]]}, [1, 1.0, True, "a", None, [1, {"b": 2}], [1, {"b": 3}], [1]]),
    ({"const": False}, [False, 0, None]),
    ({"const": {"a": [1]}}, [{"a": [1]}, {"a": [1.0]}, {"a": [True]}, {"a": 1}]),
    ({"required": ["a"]}, [{"a": None}, {}, [], 3]),
    ({"properties": {"a": {"type": "null"}}}, [{"a": None}, {"a": 1}, {"b": 1}, 4]),
    ({"properties": {"a": True}, "additionalProperties": False}, [{"a": 1}, {"b": 1}, {}]),
    ({"additionalProperties": {"type": "string"}}, [{"a": "x"}, {"a": 1}]),
    (
        {"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False},
        [{"x1": 1}, {"x1": "1"}, {"y": 1}],
    ),
    ({"propertyNames": {"maxLength": 2}}, [{"ab": 1}, {"abc": 1}, "abc"]),
    ({"minProperties": 1, "maxProperties": 2}, [{}, {"a": 1}, {"a": 1, "b": 1, "c": 1}]),
    ({"items": {"minimum": 3}}, [[3, 4], [2], "x", [], ["x"]]),
    ({"minItems": 1, "maxItems": 2}, [[], [1], [1, 2], [1, 2, 3], {}]),
    ({"uniqueItems": True}, [[1, 2], [1, 1], [1, True], [[1], [1]], [{"a": 1}, {"a": 1.0}], "aa"]),
    ({"minimum": 0, "maximum": 1}, [0, 1, -0.1, 1.1, True, "x"]),
    ({"minLength": 1, "maxLength": 2}, ["", "a", "äö", "abc", 5, []]),
    ({"pattern": "^a+$"}, ["aa", "ab", "", 7]),
    ({"pattern": "b"}, ["abc", "ac"]),
    ({"anyOf": [{"type": "integer"}, {"minLength": 2}]}, [1, "ab", "a", 1.5]),
    ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, [1, 2, 2.5, 1.5, "a"]),
    ({"$ref": "#/$defs/a", "maximum": 5, "$defs": {"a": {"minimum": 1}}}, [0, 1, 5, 6]),
    (False, [1]),
    (True, [1]),
]


@pytest.mark.parametrize(("part", "values"), KEYWORDS, ids=[str(part)[:40] for part, _ in KEYWORDS])
def test_every_keyword_means_what_jsonschema_says(part: dict[str, Any] | bool, values: list[Any]) -> None:
    below: dict[str, Any] = {"items": part} if "$defs" not in str(part) else {"items": part, "$defs": part["$defs"]}  # type: ignore[index]
    for value in values:
        assert Reference(below).is_valid([value]) == (not list(Schema(below).problems([value]))), value


@pytest.mark.parametrize(
    "document",
    [
        {"unevaluatedProperties": False},
        {"properties": {"a": {"format": "uri"}}},
        {"anyOf": [{"if": True}]},
        {"$defs": {"a": {"multipleOf": 2}}},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}},
    ],
)
def test_a_schema_that_would_not_be_checked_in_full_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown keyword|leads nowhere|refers to itself"):
        Schema(document)


def test_a_final_newline_does_not_pass_the_end_of_a_pattern() -> None:
    # Python's own `$` would let it through, and with it a second line in an error or a file name.
    assert re.search("^[a-z]+$", "name\n")
    assert list(Schema({"pattern": "^[a-z]+$"}).problems("name\n"))
    assert list(Schema({"type": "number"}).problems(float("nan")))
    assert list(Schema({"type": "number"}).problems(float("inf")))
    assert list(Schema({"type": "integer"}).problems(1.0))


def test_names_and_paths_are_the_same_in_all_schemas() -> None:
    for definition in ("file", "sha256", "text"):
        forms = [published(name)["$defs"][definition] for name in DOCUMENTS if definition in published(name)["$defs"]]
        assert len(forms) >= 2
        assert all(form == forms[0] for form in forms)


@pytest.mark.parametrize(
    "name", ["x", "onnx/x.onnx", "a/b/c/d/e", "model.safetensors", "LICENSE", "x+y-1_2.data", "_x"]
)
def test_paths_that_are_taken(name: str) -> None:
    schema("config").check(name, "it", "file")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "../x",
            "x/..",
            "x/../y",
            "/x",
            "//x",
            "x//y",
            "x/",
            "./x",
            ".x",
            "x/.y",
            "x\\y",
            "C:x",
            "C:/x",
        ),
        *("x\n", "x\0", "x y", "\x1b[31m", "é", "x" * 201, "a/b/c/d/e/f", "~x", "-x", "$x", "%2e%2e/x", "\u202ex"),
    ],
)
def test_paths_that_are_refused(name: str) -> None:
    for definition in ("file", "name"):
        with pytest.raises(InputError, match=r"expected|at most"):
            schema("config").check(name, "it", definition)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_bundled_documents_are_what_the_schemas_say(name: str) -> None:
    for folder in BUNDLED.iterdir():
        if name == "parity" and not (folder / "onnx").exists():
            continue
        document = parse_json((folder / DOCUMENTS[name]).read_bytes(), name)
        schema(name).check(document, name)
        jsonschema.validate(document, published(name))


def test_the_catalogue_says_nothing_that_a_configuration_could_not() -> None:
    for entry in entries().values():
        schema("config").check(entry.architecture, entry.name, "architecture")
        schema("config").check(entry.name, entry.name, "name")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": NaN}', "NaN is not a number"),
        (b"[Infinity]", "Infinity is not a number"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (b"[1e999]", "too large"),
        (b"[9223372036854775808]", "64 bits"),
        (b"[" + b"9" * 5000 + b"]", "64 bits"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' appears twice"),
        (b'["\\ud800"]', "unpaired surrogate"),
        (b'{"\\udfff": 1}', "unpaired surrogate"),
        (b'["\xff"]', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"{} {}", "not valid JSON"),
        (b"[1,]", "not valid JSON"),
        (b"[" * 100 + b"]" * 100, "nested more than"),
        (b"[" * 100_000 + b"]" * 100_000, "nested more than"),
        (b'{"a":' * 100_000, "nested more than"),
    ],
)
def test_what_python_would_read_and_json_does_not_have(text: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message) as caught:
        parse_json(text, "it")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_json_is_read_as_python_reads_it() -> None:
    value = {"a": [1, -2.5, 1e-300, 2**63 - 1, True, None, "é\U0001f600\n"], "": {"b": []}}
    assert parse_json(json.dumps(value).encode(), "it") == value
    deepest: Any = 1
    for _ in range(MAX_DEPTH):
        deepest = [deepest]
    assert parse_json(json.dumps(deepest).encode(), "it") == deepest
    with pytest.raises(IntegrityError, match="nested"):
        parse_json(json.dumps([deepest]).encode(), "it")


def test_messages_name_the_place_and_the_way_out() -> None:
    for change, message in (
        (
            {"architecture": {"encoder": {"class": "os:system"}}},
            "architecture.encoder.class is 'os:system'; expected one",
        ),
        ({"artefacts": [{"file": "x"}]}, r"artefacts\[0\] lacks engine"),
        ({"inputs": [{"kind": 7}]}, r"inputs\[0\].kind is 7; expected text"),
        ({"name": "../../../../X"}, r"name is '\.\./\.\./\.\./\.\./X'; expected a name of letters"),
        ({"task": ["features"]}, "task is a list; expected text"),
    ):
        with pytest.raises(InputError, match=f"it: {message}"):
            schema("config").check({**bundled("config"), **change}, "it")
