"""Uploads by the real client, to a stand-in of the Hub; and the refusals that it tells in one sentence."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_stand_in import TOKEN, Hub, hub_stand_in
from nano_llm.errors import OutputError, RequestError
from nano_llm.export.hub import check_login, push

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A stand-in that the client takes for the Hub, where nobody is logged in."""
    from huggingface_hub import close_session, constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no/token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub_stand_in() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        yield hub
        close_session()


@pytest.fixture
def logged_in(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A card\n")
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    return folder


@pytest.mark.usefixtures("logged_in")
def test_every_file_arrives_in_a_private_repository(hub: Hub, folder: Path) -> None:
    check_login("me/toy")
    assert push(folder, "me/toy") == f"{hub.address}/me/toy"
    assert [(made["organization"], made["name"], made["visibility"]) for made in hub.created] == [
        ("me", "toy", "private")
    ]
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "nano_llm" in hub.message


def test_whoever_is_not_logged_in_is_told_how_to(hub: Hub) -> None:
    with pytest.raises(RequestError, match=r"nobody is logged in.*`hf auth login`"):
        check_login("me/toy")


def test_a_token_that_the_hub_does_not_know_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    with pytest.raises(RequestError, match=r"refuses to let you log in.*`hf auth login`"):
        check_login("me/toy")
    with pytest.raises(RequestError, match="refuses to let you write me/toy"):
        push(folder, "me/toy")
    assert not hub.files


@pytest.mark.usefixtures("logged_in")
def test_a_name_that_is_none_is_refused_before_anything_is_asked(hub: Hub) -> None:
    with pytest.raises(RequestError, match="--push me//toy: Repo id must be"):
        check_login("me//toy")


@pytest.mark.usefixtures("logged_in")
def test_a_name_without_its_owner_is_refused() -> None:
    with pytest.raises(RequestError, match=r"--push toy: it lacks its owner.*owner/name"):
        check_login("toy")


@pytest.mark.usefixtures("logged_in")
def test_no_network_is_told_in_one_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(OutputError, match=r"Cannot log in to the Hub at http://127\.0\.0\.1:9 .*network"):
        check_login("me/toy")
    with pytest.raises(OutputError, match=r"Cannot write me/toy on the Hub .*network"):
        push(folder, "me/toy")


@pytest.mark.usefixtures("logged_in")
def test_files_that_the_hub_does_not_take_are_told_of(hub: Hub, folder: Path) -> None:
    hub.refuses_files = True
    with pytest.raises(OutputError, match="Cannot write me/toy on the Hub"):
        push(folder, "me/toy")


@pytest.mark.usefixtures("logged_in")
def test_a_card_that_the_hub_does_not_take_is_no_trouble_of_the_network(hub: Hub, folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: other\nlicense_link: README.md#licence\n---\n# A card\n")
    with pytest.raises(OutputError, match=r'does not take.*"license_link" must be.*The network is not at fault'):
        push(folder, "me/toy")
    assert not hub.files


@pytest.mark.usefixtures("logged_in")
def test_who_answers_in_the_place_of_the_hub_is_a_trouble_of_the_network(hub: Hub) -> None:
    hub.is_a_portal = True
    with pytest.raises(OutputError, match="Look after the network"):
        check_login("me/toy")


@pytest.mark.usefixtures("logged_in")
def test_a_mistake_of_the_program_is_not_told_as_one_of_the_network(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    from huggingface_hub import HfApi

    def fail(*_: object, **__: object) -> None:
        raise TypeError("ours")

    monkeypatch.setattr(HfApi, "whoami", fail)
    monkeypatch.setattr(HfApi, "upload_folder", fail)
    for attempt in (lambda: check_login("me/toy"), lambda: push(folder, "me/toy")):
        with pytest.raises(TypeError, match="ours"):
            attempt()
