"""The Hub: the real client against a local server that plays the Hub (`hub_server.py`)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="the Hub's client comes with the extra hub")

import huggingface_hub
from hub_server import Fault, Hub
from huggingface_hub import constants
from model_folders import example

import zoo
from zoo.cli import main
from zoo.errors import InputError, IntegrityError, MissingExtraError
from zoo.folder import catalogue
from zoo.folder.catalogue import BUNDLED, entries
from zoo.folder.model_folder import ModelFolder
from zoo.hub import download
from zoo.pushing import plan_push, push

FAULTS = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "hub_faults.py"))
RELEASED = [name for name, entry in entries().items() if entry.released]
FILES = FAULTS["small_files"](size=300_000)  # more than four of the server's and the client's chunks
ONNX = next(path for path in FILES if path.endswith(".onnx"))
NAME = "hf-hub:org/model"
CAMVID_MODEL = "supervised-resnet18w48-synthetic.fpn-camvid"
OTHER_COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub, and a client in this process that uses it with an empty cache and no token."""
    with Hub().running() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 65536)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        impatient = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
        for module in ("file_download", "utils._http"):  # between attempts
            monkeypatch.setattr(f"huggingface_hub.{module}.time", impatient)
        yield running
        huggingface_hub.close_session()
    assert not running.complaints


@pytest.fixture
def cache(hub: Hub) -> Path:
    return Path(constants.HF_HUB_CACHE) / "models--org--model"


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_writer")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder that may be published; no engine can run its files."""
    return written(tmp_path / "model", FILES)


def written(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def with_changed(changes: dict[str, bytes | None]) -> dict[str, bytes]:
    """`FILES` with other or removed files, and a manifest that agrees."""
    files = {path: content for path, content in {**FILES, **changes}.items() if content is not None}
    files.pop("MANIFEST.json")
    return {**files, "MANIFEST.json": FAULTS["manifest_of"](files)}


def seen(folder: Path) -> dict[str, bytes]:
    """Every file that is visible under a name."""
    return FAULTS["files_of"](folder) if folder.exists() else {}


def contents(hub: Hub, repository: str = "org/model") -> dict[str, bytes]:
    """The files on the server."""
    found = hub.repositories[repository]
    return {path: blob.content for path, blob in found.commits[found.refs["main"]].items()}


# --- push and load -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RELEASED)
def test_every_bundled_model_is_pushed_in_one_commit_and_loads_as_it_was(
    name: str, hub: Hub, writer: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", name, "--repo", "org/model"]) == 0
    repository = hub.repositories["org/model"]
    assert len(repository.commits) == 2  # the one that creates the repository, and the push
    pushed = contents(hub)
    pushed.pop(".gitattributes")
    assert pushed == seen(BUNDLED / name)
    assert repository.commits[repository.refs["main"]]["model.safetensors"].lfs
    commit = repository.refs["main"]
    assert f'zoo.load("{NAME}", revision="{commit}")' in capsys.readouterr().out
    source, _ = example(name)
    local, loaded = (zoo.load(model)(source) for model in (name, f"{NAME}@{commit}"))
    assert (local.labels == loaded.labels).all()
    assert (local.scores == loaded.scores).all()


def test_what_was_pushed_is_what_the_standard_client_downloads(hub: Hub, writer: None, folder: Path) -> None:
    pushed = push(plan_push(ModelFolder.open(folder)), "org/model")
    snapshot = Path(huggingface_hub.snapshot_download("org/model"))
    assert snapshot.name == pushed.commit
    assert {path: content for path, content in seen(snapshot).items() if path != ".gitattributes"} == FILES
    before = len(hub.sent("^GET /(download|api/resolve-cache)"))
    assert download(NAME) == snapshot  # one cache for both: nothing is downloaded again
    assert len(hub.sent("^GET /(download|api/resolve-cache)")) == before


def test_the_standard_client_finds_what_was_loaded(hub: Hub, cache: Path) -> None:
    commit = hub.add("org/model", FILES)
    snapshot = download(NAME)
    assert snapshot == cache / "snapshots" / commit
    assert seen(snapshot) == FILES
    assert sorted(path.name for path in cache.iterdir() if not path.name.startswith(".")) == [
        "blobs",
        "refs",
        "snapshots",
    ]
    before = len(hub.sent("^GET /download"))
    assert Path(huggingface_hub.snapshot_download("org/model")) == snapshot
    assert len(hub.sent("^GET /download")) == before
    (described,) = huggingface_hub.scan_cache_dir(constants.HF_HUB_CACHE).repos
    assert (described.repo_id, described.nb_files) == ("org/model", len(FILES))


def test_a_second_push_changes_only_what_differs(hub: Hub, writer: None, folder: Path, tmp_path: Path) -> None:
    first = push(plan_push(ModelFolder.open(folder)), "org/model")
    assert push(plan_push(ModelFolder.open(folder)), "org/model").commit == first.commit
    hub.add("org/model", {**contents(hub), "assets/picture.jpg": b"added on the Hub's page"})
    reference = next(path for path in FILES if path.endswith(".npz"))
    other = written(tmp_path / "other", with_changed({reference: None, "LICENSE": b"other terms"}))
    uploads = len(hub.sent("^PUT"))
    second = push(plan_push(ModelFolder.open(other)), "org/model")
    assert second.removed == [reference]
    pushed = contents(hub)
    assert pushed.pop("assets/picture.jpg")
    assert {path: content for path, content in pushed.items() if path != ".gitattributes"} == seen(other)
    assert len(hub.sent("^PUT")) == uploads


def test_engines_and_records_of_a_device_stay_local(hub: Hub, writer: None, folder: Path) -> None:
    engine = hashlib.sha256(b"engine").hexdigest()
    config = json.loads(FILES["config.json"])
    config["artefacts"].append({"file": "tensorrt/model.engine", "engine": "tensorrt", "sha256": engine})
    metrics, parity = json.loads(FILES["metrics.json"]), json.loads(FILES["parity.json"])
    metrics["rows"].append({**metrics["rows"][0], "artefact_sha256": engine})
    parity["rows"].append({**parity["rows"][0], "artefact_sha256": engine})
    written(
        folder,
        with_changed(
            {
                "tensorrt/model.engine": b"engine",
                "devices/orin.json": b"{}",
                "config.json": json.dumps(config).encode(),
                "metrics.json": json.dumps(metrics).encode(),
                "parity.json": json.dumps(parity).encode(),
            }
        ),
    )
    (folder / "notes.txt").write_text("unlisted")
    (folder / "MANIFEST.sig").write_text("of the manifest with the engine")
    plan = plan_push(ModelFolder.open(folder))
    assert set(plan.left_out) == {"tensorrt/model.engine", "devices/orin.json", "notes.txt", "MANIFEST.sig"}
    push(plan, "org/model")
    pushed = contents(hub)
    assert set(pushed) - {".gitattributes"} == set(FILES)
    for path, entry in json.loads(pushed["MANIFEST.json"])["files"].items():
        assert entry == {"sha256": hashlib.sha256(pushed[path]).hexdigest(), "size": len(pushed[path])}
    for document in ("config.json", "metrics.json", "parity.json"):
        assert json.loads(pushed[document]) == json.loads(FILES[document])
    assert engine not in pushed["README.md"].decode()
    assert ModelFolder.open(download(NAME)).verify() is None


# --- what push refuses -------------------------------------------------------------------------------------------


def edited(document: str, change: Callable[[dict], object]) -> dict[str, bytes]:
    value = json.loads(FILES[document])
    change(value)
    return with_changed({document: json.dumps(value).encode()})


def sha256_of_file(path: str) -> str:
    return hashlib.sha256(FILES[path]).hexdigest()


def drop_rows(path: str) -> Callable[[dict], object]:
    def change(document: dict) -> None:
        document["rows"] = [row for row in document["rows"] if row["artefact_sha256"] != sha256_of_file(path)]

    return change


def only_latency(document: dict) -> None:
    document["rows"] = [row for row in document["rows"] if row.get("kind") == "latency"]


def unknown_figures(document: dict) -> None:
    for row in document["rows"]:
        if row["artefact_sha256"] == sha256_of_file("model.safetensors"):
            row["miou"] = None


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({**FILES, ONNX: FILES[ONNX][:-1] + b"!"}, "has the SHA-256"),
        ({**FILES, ONNX: FILES[ONNX][:-1]}, "bytes, but MANIFEST.json says"),
        ({path: content for path, content in FILES.items() if path != "LICENSE"}, "LICENSE is missing"),
        (edited("parity.json", drop_rows(ONNX)), f"{ONNX} has no row in parity.json"),
        (with_changed({"parity.json": None}), f"{ONNX} has no row in parity.json"),
        (edited("metrics.json", drop_rows("model.safetensors")), "model.safetensors has no measured results"),
        (edited("metrics.json", only_latency), f"{ONNX} has no measured results"),
        (edited("metrics.json", unknown_figures), "model.safetensors has no measured results"),
        (with_changed({"metrics.json": None}), "model.safetensors has no measured results"),
        (edited("config.json", lambda config: config.pop("licence")), "licence of weights is missing"),
        (edited("config.json", lambda config: config["licence"].pop("code")), "licence of code is missing"),
        (edited("config.json", lambda config: config["licence"].update(ACDC="unknown (a page)")), "of ACDC is unknown"),
        (edited("config.json", lambda config: config["licence"].update(weights="Unknown")), "of weights is unknown"),
        (
            edited("config.json", lambda config: config.update(licence={"weights": "MIT", "code": "MIT"})),
            "two licences of the weights",
        ),
        (edited("config.json", lambda config: config.pop("training_data")), "does not name the training data"),
    ],
)
def test_a_folder_that_lacks_a_record_is_not_pushed(
    files: dict[str, bytes],
    reason: str,
    hub: Hub,
    writer: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = written(tmp_path / "model", files)
    assert main(["push", str(folder), "--repo", "org/model"]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not hub.requests


def test_an_encoder_without_a_head_needs_no_figures(tmp_path: Path) -> None:
    config = json.loads(FILES["config.json"])
    config["task"] = "features"
    config.pop("output")
    files = with_changed({"config.json": json.dumps(config).encode(), "metrics.json": None})
    plan = plan_push(ModelFolder.open(written(tmp_path / "model", files)))
    assert set(plan.files) == set(files)


def test_a_dry_run_lists_the_files_and_sends_nothing(
    hub: Hub, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "notes.txt").write_text("unlisted")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # not needed for it
    assert main(["push", str(folder), "--repo", "org/model", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for path, content in FILES.items():
        assert f"  {path}: {len(content):,} bytes\n" in printed
    assert "left out: notes.txt: not listed in MANIFEST.json" in printed
    assert not hub.requests


def test_eval_results_are_sent_for_the_named_data_set_and_removed_by_the_next_push(
    hub: Hub, writer: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["push", CAMVID_MODEL, "--repo", "org/model"]
    assert main([*words, "--eval-results", "camvid=org/camvid"]) == 0
    sent = {path for path in contents(hub) if path.startswith(".eval_results/")}
    assert len(sent) == 2
    assert all(b'{"id": "org/camvid", "task_id": "val_dusk"}' in contents(hub)[path] for path in sent)
    assert seen(download(NAME)) == seen(BUNDLED / CAMVID_MODEL)  # not part of the model
    theirs = ".eval_results/somebody.yaml"
    hub.add("org/model", {**contents(hub), theirs: b"- {}\n"})
    assert main(words) == 0
    assert {path for path in contents(hub) if path.startswith(".eval_results/")} == {theirs}
    capsys.readouterr()


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("camvid", "expected KIND=ORG/NAME"),
        ("../x=org/name", "expected KIND=ORG/NAME"),
        ("camvid=../../x", "expected hf-hub:org/name"),
        ("camvid=name", "expected hf-hub:org/name"),
        ("acdc=org/acdc", "no score on acdc"),
    ],
)
def test_eval_results_for_nothing(value: str, error: str, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["push", CAMVID_MODEL, "--repo", "org/model", "--eval-results"]
    assert main([*words, value]) == 2
    printed = capsys.readouterr().err
    assert error in printed
    assert printed.count("\n") == 1
    assert main([*words, "camvid=org/a", "--eval-results", "camvid=org/b"]) == 2
    assert "names camvid twice" in capsys.readouterr().err
    assert not hub.requests


def test_a_push_needs_a_token_that_may_write(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_push(ModelFolder.open(folder))
    with pytest.raises(InputError, match="no token; set HF_TOKEN"):
        push(plan, "org/model")
    assert not hub.requests
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(InputError, match=r"denies access \(HTTP 403\)"):
        push(plan, "org/model")
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(InputError, match="does not accept the token"):
        push(plan, "org/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set; unset it"):
        push(plan, "org/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.add("org/model", {".gitattributes": b""})
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(InputError, match=r"denies access \(HTTP 403\)"):
        push(plan, "org/model")
    assert list(contents(hub)) == [".gitattributes"]


def test_a_push_into_a_changing_repository_publishes_nothing(hub: Hub, writer: None, folder: Path) -> None:
    hub.race = lambda: hub.add("org/model", {"README.md": b"of someone else"})
    with pytest.raises(InputError, match="has changed meanwhile"):
        push(plan_push(ModelFolder.open(folder)), "org/model")
    assert contents(hub) == {"README.md": b"of someone else"}


def test_private_repositories(hub: Hub, writer: None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_push(ModelFolder.open(folder))
    push(plan, "org/model", private=True)
    assert hub.repositories["org/model"].private
    download(NAME)
    hub.add("org/public", {".gitattributes": b""})
    with pytest.raises(InputError, match="exists and is public"):
        push(plan, "org/public", private=True)
    assert list(contents(hub, "org/public")) == [".gitattributes"]
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="no such repository, or it is private"):
        download(NAME)


def test_a_push_does_not_mix_with_something_else(hub: Hub, writer: None, folder: Path) -> None:
    hub.add("org/model", {"README.md": b"", "pytorch_model.bin": b"of another library"})
    with pytest.raises(InputError, match=r"holds pytorch_model.bin but no MANIFEST.json"):
        push(plan_push(ModelFolder.open(folder)), "org/model")
    assert len(hub.repositories["org/model"].commits) == 1


def test_a_card_with_wrong_metadata_is_refused_by_the_hub(hub: Hub, writer: None, tmp_path: Path) -> None:
    card = FILES["README.md"].replace(b"license: other", b"license: my own")
    folder = written(tmp_path / "model", with_changed({"README.md": card}))
    with pytest.raises(InputError, match=r"Invalid metadata in README\.md"):
        push(plan_push(ModelFolder.open(folder)), "org/model")
    assert set(contents(hub)) == {".gitattributes"}


# --- names and revisions -----------------------------------------------------------------------------------------


def test_revisions(hub: Hub) -> None:
    old = hub.add("org/model", FILES)
    hub.repositories["org/model"].refs["v1"] = old
    new = hub.add("org/model", with_changed({"LICENSE": b"other terms"}))
    hub.repositories["org/model"].refs["refs/pr/1"] = new
    assert download(NAME).name == new
    uploads = len(hub.sent("^GET /download"))
    assert download(NAME, old).name == old
    assert (download(NAME, old) / "LICENSE").read_bytes() == FILES["LICENSE"]
    assert len(hub.sent("^GET /download")) == uploads  # both have the same weights
    assert download(f"{NAME}@v1").name == old
    assert download(NAME, "refs/pr/1").name == new
    assert download(f"{NAME}@v1", "v1").name == old
    for revision in ("v2", OTHER_COMMIT):
        with pytest.raises(InputError, match=f"org/model@{revision}: the repository has no such revision"):
            download(NAME, revision)
    with pytest.raises(InputError, match="names the revision v1, but revision 'main'"):
        download(f"{NAME}@v1", "main")


@pytest.mark.parametrize(
    "reference",
    ["name", "a/b/c", "../b", "a/..", "a/b c", "a/b?x", "a/-b", "a/b.git", "a--b/c", "/b", "a/", "", "a/" + "b" * 95],
)
def test_malformed_names_reach_no_server(reference: str, hub: Hub, cache: Path) -> None:
    with pytest.raises(InputError, match="expected hf-hub:org/name"):
        zoo.load(f"hf-hub:{reference}")
    assert main(["push", "x", "--repo", reference or " "]) == 2
    assert not hub.requests
    assert not cache.parent.exists()


@pytest.mark.parametrize("revision", ["../main", "a b", "/main", "a/../b", "-x", "", "a\n", "refs//x", "x" * 300])
def test_malformed_revisions_reach_no_server(revision: str, hub: Hub) -> None:
    with pytest.raises(InputError, match="expected a commit hash, a tag or a branch"):
        download(f"{NAME}@{revision}")
    assert not hub.requests


def test_a_name_of_the_catalogue_means_one_commit(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = hub.add("org/model", FILES)
    later = hub.add("org/model", with_changed({"LICENSE": b"other terms"}))
    row = dataclasses.replace(entries()[RELEASED[0]], name="elsewhere", hub="org/model", revision=pinned)
    monkeypatch.setattr("zoo.loading.entries", lambda: {"elsewhere": row})
    monkeypatch.setattr("zoo.commands.info.entries", lambda: {"elsewhere": row})
    assert main(["info", "elsewhere", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["folder"] == str(cache / "snapshots" / pinned)
    assert values["hub"] == f"org/model@{pinned}"
    assert zoo.loading.find_folder("elsewhere", later).name == later
    hub.down = True
    assert zoo.loading.find_folder("elsewhere").name == pinned


def test_a_catalogue_without_a_pinned_commit_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(catalogue.__file__).parent / "catalogue.toml").read_text(encoding="utf-8")
    assert "hub =" not in text  # nothing is published yet
    monkeypatch.setattr(catalogue, "__file__", str(tmp_path / "catalogue.py"))
    for revision, pinned in (("main", False), (OTHER_COMMIT, True)):
        line = f'[[model]]\nhub = "org/model"\nrevision = "{revision}"\n'
        (tmp_path / "catalogue.toml").write_text(text.replace("[[model]]\n", line, 1), encoding="utf-8")
        if pinned:
            assert next(iter(catalogue.entries.__wrapped__().values())).revision == OTHER_COMMIT
        else:
            with pytest.raises(RuntimeError, match="without a full commit hash"):
                catalogue.entries.__wrapped__()


def test_a_revision_of_something_that_is_not_on_the_hub(folder: Path) -> None:
    for reference in (RELEASED[0], folder):
        with pytest.raises(InputError, match="is not loaded from the Hub and has only one"):
            zoo.load(reference, revision="v1")


def test_commands_take_models_on_the_hub(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit = hub.add("org/model", seen(BUNDLED / RELEASED[0]))
    assert main(["info", f"{NAME}@{commit}"]) == 0
    assert "measured:" in capsys.readouterr().out
    assert main(["copy", NAME, str(tmp_path / "copy")]) == 0
    assert seen(tmp_path / "copy") == seen(BUNDLED / RELEASED[0])
    picture = next((BUNDLED.parent / "embedded").glob("*.jpg"))
    assert main(["predict", NAME, str(picture), "--out", str(tmp_path / "out"), "--engine", "onnx"]) == 0
    assert list((tmp_path / "out").iterdir())


def test_nothing_is_recorded_in_the_cache(hub: Hub) -> None:
    hub.add("org/model", FILES)
    folder = ModelFolder.open(download(NAME))
    row = {"artefact_sha256": sha256_of_file(ONNX), "miou": 0.5}
    with pytest.raises(InputError, match="a snapshot in the Hub's cache; copy it first"):
        folder.record([row], ["artefact_sha256"])
    assert seen(folder.path) == FILES


# --- without the network -----------------------------------------------------------------------------------------


def test_a_pinned_commit_needs_no_connection(hub: Hub) -> None:
    commit = hub.add("org/model", FILES)
    snapshot = download(NAME, commit)
    asked = len(hub.requests)
    assert download(NAME, commit) == snapshot
    assert len(hub.requests) == asked


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("org/model", FILES)
    with pytest.raises(InputError, match="without the network: it was never loaded"):
        zoo.load(NAME, local_files_only=True)
    assert not hub.requests
    snapshot = download(NAME)
    asked = len(hub.requests)
    assert download(NAME, local_files_only=True) == snapshot
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for revision in (None, "main", commit):
        assert download(NAME, revision) == snapshot
    for revision in ("v2", OTHER_COMMIT):
        with pytest.raises(InputError, match="without the network"):
            download(NAME, revision)
    assert len(hub.requests) == asked


def test_an_unreachable_hub_means_the_commit_of_the_last_time(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/model", FILES)
    hub.down = True
    with pytest.raises(InputError, match="answered HTTP 503; try again later"):
        download(NAME)
    hub.down = False
    snapshot = download(NAME)
    hub.down = True
    with pytest.warns(UserWarning, match=f"cannot be reached; using hf-hub:org/model@main as of {snapshot.name[:12]}"):
        assert download(NAME) == snapshot
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    with pytest.warns(UserWarning, match="cannot be reached"):
        assert download(NAME) == snapshot
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9 cannot be reached \(ConnectError\)"):
        download(NAME, "v2")


# --- servers that misbehave --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["MANIFEST.json", "config.json", ONNX])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("flip"), "with another SHA-256 than expected; it was discarded"),
        (Fault("short"), "size|SHA-256"),
        (Fault("truncate", value=100), "cannot be reached"),
        (Fault("status", value=500), "answered HTTP 500; try again later"),
        (Fault("status", value=404), "does not have a file that it lists"),
        (Fault("status", value=401), "does not accept the token|no such repository"),
        (Fault("status", value=403), "denies access .HTTP 403."),
        (Fault("no-commit"), "X-Repo-Commit"),
    ],
    ids=lambda value: f"{value.kind}{value.value:g}" if isinstance(value, Fault) else "",
)
def test_a_bad_file_is_never_visible_and_the_next_load_succeeds(
    path: str, fault: Fault, error: str, hub: Hub, cache: Path
) -> None:
    hub.add("org/model", FILES)
    hub.faults = [dataclasses.replace(fault, path=path)]
    with pytest.raises(InputError, match=error) as raised:
        download(NAME)
    assert "\n" not in str(raised.value)
    visible = seen(cache / "snapshots")
    assert all(FILES[name.partition("/")[2]] == content for name, content in visible.items())
    assert not any(name.endswith(path) or name.endswith("MANIFEST.json") for name in visible)
    for blob in (cache / "blobs").glob("*"):
        assert blob.name == hashlib.sha256(blob.read_bytes()).hexdigest()
    hub.faults = []
    assert seen(download(NAME)) == FILES
    assert not (cache / ".unverified").exists() or not list((cache / ".unverified").iterdir())


@pytest.mark.parametrize("path", ["MANIFEST.json", "config.json", ONNX])
@pytest.mark.parametrize("kind", ["flip", "truncate", "truncate no-range"])
def test_a_passing_fault_is_overcome(path: str, kind: str, hub: Hub) -> None:
    hub.add("org/model", FILES)
    hub.faults = [Fault(each, path=path, value=200_000, times=1) for each in kind.split()]
    if path != ONNX and "truncate" in kind:
        hub.faults = [dataclasses.replace(fault, value=50) for fault in hub.faults]
    assert seen(download(NAME)) == FILES


def test_what_was_complete_is_not_downloaded_again(hub: Hub) -> None:
    hub.add("org/model", FILES)
    last = list(json.loads(FILES["MANIFEST.json"])["files"])[-1]
    hub.faults = [Fault("status", path=last, value=500)]
    with pytest.raises(InputError):
        download(NAME)
    asked = len(hub.requests)
    hub.faults = []
    download(NAME)
    again = [line for line in hub.requests[asked:] if line.startswith("GET /download") or "resolve-cache" in line]
    assert {line.rpartition("/")[2] for line in again} == {last.rpartition("/")[2]}


def test_gated_repositories(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/model", FILES, gated=True)
    for token in (None, "hf_reader"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(InputError, match=r"is gated; accept its terms at .* and set HF_TOKEN"):
            download(NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    assert seen(download(NAME)) == FILES


def test_a_repository_that_was_renamed(hub: Hub) -> None:
    commit = hub.add("org/renamed", FILES)
    hub.moved = {"org/model": "org/renamed"}
    assert download(NAME).name == commit


def hostile(files: dict[str, bytes], **entries: dict) -> dict[str, bytes]:
    """`files` with a manifest that says something else about some names."""
    manifest = json.loads(FILES["MANIFEST.json"])
    manifest["files"].update(entries)
    return {**files, "MANIFEST.json": json.dumps(manifest).encode()}


ENTRY = {"sha256": "0" * 64, "size": 3}


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"README.md": b"a text model", "model.safetensors": b"x"}, "is not a model of perception-zoo"),
        (hostile(FILES, **{"../../x": ENTRY}), r"\.\./\.\./x"),
        (hostile(FILES, **{"/etc/passwd": ENTRY}), "/etc/passwd"),
        (hostile(FILES, **{"a\\b": ENTRY}), r"a\\+b"),
        (hostile(FILES, **{".cache/x": ENTRY}), ".cache/x"),
        (hostile(FILES, **{"Config.json": ENTRY}), "lists both"),
        (hostile(FILES, **{"absent.json": ENTRY}), "lists absent.json, which the repository does not have"),
        (hostile(FILES, **{ONNX: {**ENTRY, "size": len(FILES[ONNX])}}), "has another SHA-256 than MANIFEST.json says"),
        (hostile(FILES, **{"LICENSE": ENTRY}), "LICENSE has 464 bytes, but MANIFEST.json says 3"),
        ({**FILES, "MANIFEST.json": b"not JSON"}, "MANIFEST.json"),
        ({**FILES, "MANIFEST.json": b'{"format": 2, "files": {}}'}, "update perception-zoo"),
        ({**FILES, "MANIFEST.json": b" " * (16 * 2**20 + 1)}, "16,777,217 bytes"),
    ],
)
def test_repositories_that_are_not_model_folders(
    files: dict[str, bytes], error: str, hub: Hub, cache: Path, tmp_path: Path
) -> None:
    hub.add("org/model", files)
    for _ in range(2):
        with pytest.raises(InputError, match=error) as raised:
            zoo.load(NAME)
        assert "hf-hub:org/model@main" in str(raised.value)
        assert not seen(cache / "snapshots")
        assert not list(cache.glob("blobs/*"))
    assert not hub.sent("^GET /download")  # known before anything large is fetched
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_a_server_that_is_not_a_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add("org/model", FILES)
    repository = hub.repositories["org/model"]
    for sha in ("", "../../x", commit[:7]):
        repository.commits[sha] = repository.commits[commit]
        repository.refs["main"] = sha
        with pytest.raises(InputError, match="names no commit; check that HF_ENDPOINT is a Hub"):
            download(NAME)


# --- the cache ---------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("path", ["config.json", "MANIFEST.json", ONNX])
def test_damage_in_the_cache_is_repaired(path: str, hub: Hub, cache: Path) -> None:
    commit = hub.add("org/model", FILES)
    snapshot = download(NAME, commit)
    flip((snapshot / path).resolve())
    with pytest.raises(InputError, match="without the network"):
        download(NAME, commit, local_files_only=True)
    assert download(NAME, commit) == snapshot
    assert seen(snapshot) == FILES
    for blob in (cache / "blobs").iterdir():
        assert blob.name == hashlib.sha256(blob.read_bytes()).hexdigest()


def test_a_wrong_file_that_another_program_left_in_the_cache_is_replaced(hub: Hub) -> None:
    hub.add("org/model", FILES)
    hub.faults = [Fault("flip", path=path) for path in ("config.json", ONNX)]
    snapshot = Path(huggingface_hub.snapshot_download("org/model"))  # compares sizes only
    wrong = {path: (snapshot / path).resolve() for path in ("config.json", ONNX)}
    assert {path for path, content in FILES.items() if seen(snapshot)[path] != content} == set(wrong)
    hub.faults = []
    assert download(NAME) == snapshot
    assert seen(snapshot) == FILES
    assert not wrong["config.json"].exists()


def test_a_full_disk_and_a_read_only_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another user, since nothing is read-only for root."""
    hub.add("org/model", FILES)
    home = Path(tempfile.mkdtemp(prefix="hub-test-"))  # where other users may enter
    try:
        home.chmod(0o755)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        program = (
            "import resource, sys\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"  # no file may grow beyond
            "from zoo.cli import main\n"
            "sys.exit(main(['info', 'hf-hub:org/model']))\n"
        )
        client = FAULTS["start"](hub, home / "full", program)
        _, error = client.communicate()
        assert client.returncode == 2, error
        assert "cannot read or write" in error.splitlines()[-1]
        assert "File too large" in error.splitlines()[-1]
        assert not any(path.name == "MANIFEST.json" for path in (home / "full").glob("hub/*/snapshots/*/*"))
        snapshot = download(NAME)
        for path in [home, *home.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o555 if path.is_dir() else 0o444)
        os.seteuid(65534 if os.geteuid() == 0 else os.geteuid())
        try:
            with pytest.raises(PermissionError):
                (home / "cache" / "x").touch()
            assert download(NAME) == snapshot
            hub.add("org/model", with_changed({"LICENSE": b"other terms"}))
            with pytest.raises(InputError, match=r"cannot read or write .*: Permission denied; .* set HF_HOME"):
                download(NAME)
            assert download(NAME, snapshot.name) == snapshot
        finally:
            os.seteuid(os.getuid())
    finally:
        for path in [home, *home.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(home)


# --- processes ---------------------------------------------------------------------------------------------------


def test_killed_downloads() -> None:
    """A small part of benchmarks/hub_faults.py."""
    assert FAULTS["kill_downloads"](2, seed=1)["killed"] == 2


def test_several_processes_load_one_model_at_once() -> None:
    program = FAULTS["DOWNLOAD"].replace(
        "print(", "import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\nprint("
    )
    assert FAULTS["load_at_once"](4, program, FILES)["downloads per file"] == 1


def test_a_load_from_the_hub_needs_no_torch(hub: Hub, tmp_path: Path) -> None:
    """A vehicle: environment variables, a token, ONNX Runtime."""
    hub.add("org/model", seen(BUNDLED / RELEASED[0]), private=True)
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['timm'] = None\n"
        "import zoo\n"
        "assert 'huggingface_hub' not in sys.modules and 'httpx' not in sys.modules\n"
        "import numpy as np\n"
        "print(zoo.load('hf-hub:org/model')(np.zeros((64, 96, 3), np.uint8)).labels.shape)\n"
    )
    environment = {**FAULTS["environment"](hub, tmp_path / "home"), "HF_TOKEN": "hf_reader"}
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "(64, 96)\n"
    offline = {**environment, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert subprocess.run(command, env=offline, capture_output=True, text=True, check=True).stdout == "(64, 96)\n"


def test_a_missing_client_is_reported_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"loading hf-hub:org/model@main .*'perception-zoo\[hub\]'"):
        zoo.load(NAME)
    assert main(["push", str(folder), "--repo", "org/model"]) == 2
    assert "pip install 'perception-zoo[hub]'" in capsys.readouterr().err


def test_wrong_content_is_an_integrity_error(hub: Hub) -> None:
    hub.add("org/model", FILES)
    hub.faults = [Fault("flip", path=ONNX)]
    with pytest.raises(IntegrityError, match=r"sent onnx/.* twice with another SHA-256"):
        download(NAME)
