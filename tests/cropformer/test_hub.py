"""Weights on a hub: fetched once, checked always, and one sentence for every way in which that can fail."""

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, file_download

from cropformer import InputError, load, save_checkpoint
from cropformer.checkpoint import save_official
from cropformer.hub.download import HubFile, download
from cropformer.hub.published import PUBLISHED_WEIGHTS
from cropformer.loading import weights_path
from cropformer.zoo import named_architecture

from .fake_hub import WRITER, FakeHub, fake_hub

CONTENT = bytes(range(256)) * 40
FILE = HubFile("owner/name")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[FakeHub]:
    with fake_hub(tmp_path / "home", monkeypatch) as running:
        yield running


@pytest.fixture
def commit(hub) -> str:
    """The one commit of owner/name."""
    return hub.add("owner/name", {"model.safetensors": CONTENT, "config.json": b"{}"})


def cached_blobs() -> list[Path]:
    return [path for path in Path(constants.HF_HUB_CACHE).glob("*/blobs/*") if path.is_file()]


# --- addresses


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("hf://a/b", HubFile("a/b", "model.safetensors", "main", "model")),
        ("hf://a/b@v1", HubFile("a/b", "model.safetensors", "v1")),
        ("hf://a/b/c/d.pth", HubFile("a/b", "c/d.pth")),
        ("hf://a/b/c/d.pth@0123abc", HubFile("a/b", "c/d.pth", "0123abc")),
        ("hf://a/b/c.pth@refs/pr/3", HubFile("a/b", "c.pth", "refs/pr/3")),
        ("hf://datasets/a/b.c/d.pth@v1", HubFile("a/b.c", "d.pth", "v1", "dataset")),
        ("hf://models/a/b", HubFile("a/b")),
        (str(Path("hf://a/b/c.pth")), HubFile("a/b", "c.pth")),
    ],
)
def test_addresses(address, file):
    assert HubFile.parse(address) == file
    assert HubFile.parse(str(file)) == file


@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://a", "hf://datasets/a", "hf://a/b/", "hf://a/b/../c", "hf://a/b@", "hf://a/b@v1/c.pth", "hf:a/b"],
)
def test_other_addresses_are_told_the_form(address):
    with pytest.raises(InputError, match=r"write hf://owner/name/path/of/file@revision"):
        HubFile.parse(address)


# --- fetching


def test_weights_are_loaded_from_the_hub(hub, tiny_model, photo, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny_model.state_dict(), architecture=tiny_model.architecture, settings=tiny_model.settings)
    hub.add("owner/tiny", {"model.safetensors": path.read_bytes(), "old/tiny.safetensors": path.read_bytes()})
    for address in ("hf://owner/tiny", "hf://owner/tiny/old/tiny.safetensors@main"):
        state = load(address).state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in tiny_model.state_dict().items())


def test_what_is_cached_is_not_fetched_again(hub, commit):
    path = download(FILE)
    assert path.read_bytes() == CONTENT
    assert [request.start for request in hub.downloads()] == [None]
    assert download(FILE) == path
    assert len(hub.downloads()) == 1


def test_a_cached_commit_needs_no_network(hub, commit):
    pinned = HubFile("owner/name", revision=commit)
    path = download(pinned)
    hub.requests.clear()
    assert download(pinned) == path
    assert hub.requests == []


def test_a_branch_that_moves_on_is_followed(hub, commit):
    download(FILE)
    hub.repositories["owner/name"].commit({"model.safetensors": CONTENT[::-1]})
    assert download(FILE).read_bytes() == CONTENT[::-1]
    assert download(HubFile("owner/name", revision=commit)).read_bytes() == CONTENT


def test_an_interrupted_download_goes_on_where_it_broke_off(hub, commit):
    hub.cut_at = 3000
    assert download(FILE).read_bytes() == CONTENT
    assert [request.start for request in hub.downloads()] == [None, 2048]


def test_the_endpoint_is_read_when_it_is_needed(hub, commit, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9/")
    with pytest.raises(InputError, match="could not be fetched from http://127.0.0.1:9 "):
        download(FILE)
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    assert download(FILE).read_bytes() == CONTENT


def test_a_file_of_a_dataset_repository(hub):
    hub.add("datasets/owner/name", {"weights/tiny.pth": CONTENT})
    assert download(HubFile("owner/name", "weights/tiny.pth", repo_type="dataset")).read_bytes() == CONTENT
    with pytest.raises(InputError, match="shows you no model owner/name"):
        download(HubFile("owner/name", "weights/tiny.pth"))


def test_small_files_have_no_sha256_to_check(hub, commit):
    assert download(HubFile("owner/name", "config.json")).read_bytes() == b"{}"


# --- content


def test_content_damaged_on_the_way_is_found_out_and_fetched_again(hub, commit):
    hub.damaged = True
    damaged = hashlib.sha256(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])).hexdigest()
    stated = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(InputError, match=f"should have sha256 {stated} and has {damaged}; it was removed .* try again"):
        download(FILE)
    assert cached_blobs() == []
    hub.damaged = False
    assert download(FILE).read_bytes() == CONTENT


def test_content_damaged_in_the_cache_is_found_out_and_fetched_again(hub, commit):
    pinned = HubFile("owner/name", revision=commit)
    path = download(pinned)
    path.resolve().write_bytes(CONTENT[:-100])
    with pytest.raises(InputError, match="should have sha256"):
        download(pinned)
    assert not path.is_symlink()
    assert download(pinned).read_bytes() == CONTENT


def test_a_pinned_sha256_is_checked_whatever_the_hub_states(hub, commit):
    stated = hashlib.sha256(CONTENT).hexdigest()
    assert download(FILE, sha256=stated).read_bytes() == CONTENT
    with pytest.raises(InputError, match=f"should have sha256 {'0' * 64} and has {stated}"):
        download(FILE, sha256="0" * 64)
    assert cached_blobs() == []


# --- what the hub refuses


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://owner/absent", "shows you no model owner/absent; check the name, or run `hf auth login`"),
        ("hf://owner/name/absent.pth", "/owner/name has no file absent.pth at revision main"),
        ("hf://owner/name@v9", "/owner/name has no revision v9; give a branch, a tag or a full commit"),
        ("hf://owner/a--b", "is no address of a file on the hub: Cannot have -- or .. in repo_id"),
    ],
)
def test_what_is_not_there_is_named(address, said, hub, commit):
    with pytest.raises(InputError) as raised:
        load(address)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_gated_repository_says_where_to_accept_its_conditions(hub, monkeypatch):
    hub.add("datasets/owner/gated", {"tiny.pth": CONTENT}, gated=True)
    file = HubFile("owner/gated", "tiny.pth", repo_type="dataset")
    with pytest.raises(
        InputError, match=f"accept its conditions on {hub.url}/datasets/owner/gated, run `hf auth login"
    ):
        download(file)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    assert download(file).read_bytes() == CONTENT


# --- no network, no disk


def test_offline_takes_what_is_cached(hub, commit, monkeypatch):
    path = download(FILE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download(FILE) == path
    with pytest.raises(InputError, match="owner/other.* is not in the cache and HF_HUB_OFFLINE is set"):
        download(HubFile("owner/other"))


def test_a_hub_out_of_reach_takes_what_is_cached(hub, commit):
    path = download(FILE)
    hub.stop()
    assert download(FILE) == path
    with pytest.raises(InputError, match=rf"could not be fetched from {hub.url} \(.*refused.*\); check the connection"):
        download(HubFile("owner/other"))


def test_a_full_disk(hub, commit, monkeypatch):
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_download, "http_get", fill)
    with pytest.raises(InputError, match="No space left on the device while fetching hf://owner/name"):
        download(FILE)


# --- published weights


@pytest.mark.parametrize("name", PUBLISHED_WEIGHTS)
def test_published_weights_by_name(name, hub):
    published = PUBLISHED_WEIGHTS[name]
    folder, file = published.file.path.split("/")[-2:]
    assert folder.lower() == name and file.startswith(folder)
    assert published.average_precision_low < published.average_precision_high
    assert named_architecture(published.architecture).backbone in {"swin", "hornet"}

    revision = "143d5e7e2880dcf3df2df6570984143c2e9a9b45"
    hub.add("datasets/qqlu1992/Adobe_EntitySeg", {})
    hub.repositories["datasets/qqlu1992/Adobe_EntitySeg"].commits[revision] = {published.file.path: CONTENT}
    assert weights_path(name).read_bytes() == CONTENT
    asked = (
        f"/datasets/qqlu1992/Adobe_EntitySeg/resolve/{revision}/CropFormer_model/Entity_Segmentation/{folder}/{file}"
    )
    assert [request.path for request in hub.requests if request.method == "HEAD"] == [asked]


def test_loading_published_weights_tells_their_licence(hub, tiny_model, tmp_path, caplog):
    save_official(tmp_path / "tiny.pth", tiny_model.state_dict(), architecture=tiny_model.architecture)
    published = PUBLISHED_WEIGHTS["cropformer_swin_tiny_3x"]
    hub.add("datasets/qqlu1992/Adobe_EntitySeg", {})
    commits = hub.repositories["datasets/qqlu1992/Adobe_EntitySeg"].commits
    commits[published.file.revision] = {published.file.path: (tmp_path / "tiny.pth").read_bytes()}
    state = load("cropformer_swin_tiny_3x").state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in tiny_model.state_dict().items())
    said = [record.getMessage() for record in caplog.records if record.name == "cropformer"]
    assert len(said) == 1 and "CC BY-NC 4.0: not for commercial use" in said[0]


def test_the_zoo_page_tells_what_the_code_knows():
    page = (Path(__file__).parents[2] / "MODEL_ZOO.md").read_text()
    for weights in PUBLISHED_WEIGHTS.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{weights.name}` |"))
        ap = f"{100 * weights.average_precision_low:.1f} / {100 * weights.average_precision_high:.1f}"
        for said in (
            ap,
            f"**{weights.licence}**",
            weights.dataset,
            weights.architecture,
            weights.file.path.rpartition("/")[2],
        ):
            assert said in row
    assert PUBLISHED_WEIGHTS["cropformer_hornet_3x"].file.revision in page
