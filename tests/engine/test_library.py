"""The library finds, makes, copies and deletes models, and knows them by their content."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.files import good_bytes, tiny_llama
from workbench.errors import BadModelFile, ModelNotFound, ResponseError
from workbench.server.engine.blobs import BadDigest
from workbench.server.engine.library import ModelLibrary, ModelProtected
from workbench.server.engine.names import BadModelName, name_of_stem, parse_name

GOOD = hashlib.sha256(good_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty models folder."""
    path = tmp_path / "models"
    path.mkdir()
    return path


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    """Return a folder with one bundled model."""
    path = tmp_path / "bundled"
    path.mkdir()
    (path / "toy-nano.gguf").write_bytes(good_bytes())
    return path


@pytest.fixture
def library(folder: Path, bundled: Path) -> ModelLibrary:
    """Return a library of both folders."""
    return ModelLibrary(folder, bundled_dirs=[bundled])


def put(path: Path, data: bytes | None = None) -> Path:
    """Write a model file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(good_bytes() if data is None else data)
    return path


def names(library: ModelLibrary) -> list[str]:
    """Return the names in the list."""
    return [model.name for model in library.list()]


def test_dropped_file_is_a_model(library: ModelLibrary, folder: Path) -> None:
    """A GGUF file anywhere in the models folder is a model named by its file name."""
    path = put(folder / "deep" / "Qwen2.5 7B_Instruct-Q8_0.GGUF")
    assert ["qwen2.5-7b_instruct-q8_0:latest", "toy-nano:latest"] == names(library)
    model = library.get("QWEN2.5-7b_instruct-q8_0")
    assert (path, len(good_bytes()), GOOD, False, None) == (
        *(model.path, model.size_bytes, model.digest, model.toy, model.problem),
    )
    assert model.header.architecture == "llama"
    changed = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
    assert abs((model.modified_at - changed).total_seconds()) < 1e-3


def test_bundled_model_is_a_toy(library: ModelLibrary) -> None:
    """A bundled model is marked as a toy."""
    assert library.get("toy-nano").toy


def test_missing_folder_is_empty(tmp_path: Path) -> None:
    """A models folder that does not exist holds nothing, and is not made by looking."""
    assert [] == ModelLibrary(tmp_path / "none").list()
    assert not (tmp_path / "none").exists()


def test_what_is_not_a_model_is_not_listed(library: ModelLibrary, folder: Path) -> None:
    """Hidden files, other files, blobs and folders named like models are not listed."""
    for name in (".hidden.gguf", "._Model.gguf", "notes.txt", "blobs/a.gguf", ".git/a.gguf"):
        put(folder / name)
    (folder / "folder.gguf").mkdir()
    assert ["toy-nano:latest"] == names(library)


def test_split_model_is_one(library: ModelLibrary, folder: Path) -> None:
    """The files of a split model are one model; its size and parameters are their sum."""
    first = tiny_llama(folder / "Big-00001-of-00002.gguf")
    second = tiny_llama(folder / "Big-00002-of-00002.gguf")
    model = library.get("big")
    assert ["big:latest", "toy-nano:latest"] == names(library)
    assert first.stat().st_size + second.stat().st_size == model.size_bytes
    assert 48_160 < model.header.parameter_count
    second.unlink()
    assert "No such file" in (library.get("big").problem or "")


def test_projector_belongs_to_its_model(library: ModelLibrary, folder: Path) -> None:
    """An image half is attached to the model it is named for, or to the only one beside it."""
    put(folder / "one" / "vision-a.gguf")
    only = put(folder / "one" / "mmproj-f16.gguf")
    named = put(folder / "two" / "mmproj-gem-4b-F16.gguf")
    put(folder / "two" / "gem-4b-Q4_K_M.gguf")
    put(folder / "two" / "other.gguf")
    expected = {
        "gem-4b-q4_k_m:latest": named,
        "other:latest": None,
        "toy-nano:latest": None,
        "vision-a:latest": only,
    }
    assert expected == {model.name: model.projector for model in library.list()}
    assert "vision" in library.get("vision-a").capabilities


def test_equal_stems_get_different_names(library: ModelLibrary, folder: Path) -> None:
    """Of two files with one name each can be asked for, and the list says how."""
    for name in ("a.gguf", "one/a.gguf", "x/one/a.gguf", "toy-nano.gguf"):
        put(folder / name)
    expected = [
        *("a:latest", "bundled/toy-nano:latest", "one/a-2:latest", "one/a:latest"),
        "toy-nano:latest",
    ]
    assert expected == names(library)
    assert expected == [library.get(name).name for name in expected]


def test_links_in_a_circle_end(library: ModelLibrary, folder: Path) -> None:
    """A folder that links to itself is walked once."""
    put(folder / "sub" / "a.gguf")
    (folder / "sub" / "again").symlink_to(folder)
    assert ["a:latest", "toy-nano:latest"] == names(library)


@pytest.mark.parametrize("form", ["{path}", "{path}:latest", "./{name}", "{name}"])
def test_path_names_a_file(form: str, library: ModelLibrary, folder: Path) -> None:
    """A file of the models folder is found by its path, and keeps its listed name."""
    path = put(folder / "A.gguf")
    assert library.get(form.format(path=path, name=path.name)).name == "a:latest"


def test_path_outside_names_a_file(library: ModelLibrary, tmp_path: Path) -> None:
    """Any GGUF file of the machine is a model, named by its path."""
    path = put(tmp_path / "elsewhere" / "B.gguf")
    model = library.get(str(path))
    assert (str(path), path, GOOD) == (model.name, model.path, model.digest)
    with pytest.raises(ModelProtected, match="not a model of the models folder"):
        library.delete(str(path))
    assert path.exists()


def test_unknown_name_gives_the_nearest(library: ModelLibrary, folder: Path) -> None:
    """A name that is not there raises an error with the names that look like it."""
    put(folder / "llama-3.2-1b.gguf")
    with pytest.raises(ModelNotFound) as caught:
        library.get("llama3.2-1b")
    assert caught.value.nearest == ("llama-3.2-1b:latest",)


@pytest.mark.parametrize("name", ["", "a b", "../a", "/no/such.gguf", "a/b/c", "nothing"])
def test_impossible_names_are_not_found(name: str, library: ModelLibrary) -> None:
    """Whatever text is asked for, the answer is that there is no such model."""
    with pytest.raises(ModelNotFound):
        library.get(name)


def test_broken_file_is_listed_with_its_problem(library: ModelLibrary, folder: Path) -> None:
    """A file that will not load is listed, and says why."""
    put(folder / "text.gguf", b"hello")
    put(folder / "cut.gguf", good_bytes()[:-4096])
    assert "instead of b'GGUF'" in (library.get("text").problem or "")
    assert "truncated" in (library.get("cut").problem or "")
    assert library.get("text").header.architecture == "unknown"


def test_create_keeps_what_it_is_given(library: ModelLibrary) -> None:
    """A created model has its template, system prompt and parameters over the file of another."""
    made = library.create(
        "My/Poet:V1",
        from_="toy-nano",
        template="{{ tools }}",
        system="Rhyme.",
        parameters={"temperature": 0.5},
        license="MIT",
        messages=[{"role": "user", "content": "Hi"}],
    )
    again = library.get("my/poet:v1")
    assert made == again
    assert again.manifest is not None
    assert ("my/poet:v1", "{{ tools }}", "Rhyme.", {"temperature": 0.5}, ("MIT",)) == (
        *(again.name, again.template, again.manifest.system),
        *(again.manifest.parameters, again.manifest.license),
    )
    assert again.manifest.messages == ({"role": "user", "content": "Hi"},)
    assert "tools" in again.capabilities
    assert again.digest == hashlib.sha256(again.manifest.to_json()).hexdigest()
    assert "my/poet:v1" in names(library)


def test_create_from_a_created_model_adds(library: ModelLibrary) -> None:
    """A model made of a created one keeps what it does not change."""
    library.create("a", from_="toy-nano", system="One.", parameters={"top_k": 3, "seed": 1})
    manifest = library.create("b", from_="a", parameters={"seed": 2}).manifest
    assert manifest is not None
    assert ("One.", {"top_k": 3, "seed": 2}) == (manifest.system, manifest.parameters)


def test_create_of_blobs(library: ModelLibrary) -> None:
    """A model is made of an uploaded file, which goes with the last model that uses it."""
    library.put_blob(f"sha256:{GOOD}", io.BytesIO(good_bytes()))
    library.create("up", files={"model.gguf": f"sha256:{GOOD}"})
    library.copy("up", "twin")
    assert library.get("up").path.name == f"sha256-{GOOD}"
    assert library.get("up").digest == library.get("twin").digest
    library.delete("up")
    assert library.has_blob(GOOD)
    library.delete("twin")
    assert not library.has_blob(GOOD)
    assert list((library.models_dir / "manifests").glob("*")) == []


def test_created_model_survives_a_moved_folder(library: ModelLibrary, folder: Path) -> None:
    """A models folder can be moved: created models find their file in the new place."""
    put(folder / "a.gguf")
    library.create("b", from_="a")
    moved = folder.rename(folder.with_name("moved"))
    assert ModelLibrary(moved).get("b").path == moved / "a.gguf"


@pytest.mark.parametrize("cut", [3, 200, 4000, len(good_bytes()) - 64])
def test_create_refuses_a_truncated_file(cut: int, library: ModelLibrary) -> None:
    """A file that was cut anywhere is refused when a model is made of it, not when it loads."""
    data = good_bytes()[:cut]
    digest = hashlib.sha256(data).hexdigest()
    library.put_blob(digest, [data])
    with pytest.raises(BadModelFile, match=r"truncated|in \d+ bytes"):
        library.create("cut", files={"cut.gguf": digest})
    assert names(library) == ["toy-nano:latest"]


@pytest.mark.parametrize("name", ["", "a b", "a/b/c", "..", "../x", "x.gguf", "-a", "a:b:c", "é"])
def test_create_refuses_a_bad_name(name: str, library: ModelLibrary) -> None:
    """A name outside of the grammar is refused, so that no name is a path."""
    with pytest.raises(BadModelName):
        library.create(name, from_="toy-nano")


def test_create_needs_its_source(library: ModelLibrary) -> None:
    """A model of a missing model, or of a missing blob, is refused."""
    with pytest.raises(ModelNotFound):
        library.create("a", from_="nothing")
    with pytest.raises(BadDigest, match="no blob"):
        library.create("a", files={"m.gguf": "sha256:" + "0" * 64})


def test_copy_of_a_file(library: ModelLibrary, folder: Path) -> None:
    """A copy of a file is a second name for it, and protects it from deletion."""
    put(folder / "a.gguf")
    library.copy("a", "b:2")
    assert library.get("b:2").path == folder / "a.gguf"
    with pytest.raises(ModelProtected, match="b:2"):
        library.delete("a")
    library.delete("b:2")
    library.delete("a")
    assert ["toy-nano:latest"] == names(library)
    assert not (folder / "a.gguf").exists()


def test_delete_of_a_split_model(library: ModelLibrary, folder: Path) -> None:
    """Deleting a split model removes all its files."""
    tiny_llama(folder / "m-00001-of-00002.gguf")
    tiny_llama(folder / "m-00002-of-00002.gguf")
    library.delete("m")
    assert [] == list(folder.glob("*.gguf"))


@pytest.mark.parametrize("name", ["../notes.md", "./../notes.md", "{folder}/../notes.md"])
def test_delete_by_a_path_out_of_the_folder(name: str, library: ModelLibrary, folder: Path) -> None:
    """A path that begins in the models folder and leads out of it deletes nothing."""
    folder.mkdir(exist_ok=True)
    notes = folder.parent / "notes.md"
    notes.write_text("mine")
    with pytest.raises(ModelProtected, match="not a model of the models folder"):
        library.delete(name.format(folder=folder))
    assert "mine" == notes.read_text()


def test_delete_by_the_path_of_a_blob(library: ModelLibrary, folder: Path) -> None:
    """What lies in the models folder without being a model of it is not deleted by its path."""
    tiny_llama(folder / "a.gguf")
    library.create("b", from_="a")
    manifest = folder / "manifests" / "b" / "latest.json"
    with pytest.raises(ModelProtected, match="not a model of the models folder"):
        library.delete("./manifests/b/latest.json")
    assert manifest.exists()


def test_delete_by_the_path_of_a_model(library: ModelLibrary, folder: Path) -> None:
    """A model of the folder is deleted by its path as by its name."""
    tiny_llama(folder / "a.gguf")
    library.delete("./a.gguf")
    assert [] == list(folder.glob("*.gguf"))


def test_add_of_an_unknown_home(library: ModelLibrary) -> None:
    """A path in the home of nobody is a file that is not there."""
    with pytest.raises(ResponseError, match="there is no file '~nobody-of-this-name"):
        library.add("~nobody-of-this-name/a.gguf")


def test_bundled_models_stay(library: ModelLibrary, bundled: Path) -> None:
    """A bundled model is not deleted."""
    with pytest.raises(ModelProtected, match="comes with the workbench"):
        library.delete("toy-nano")
    assert (bundled / "toy-nano.gguf").exists()


def test_delete_of_nothing(library: ModelLibrary) -> None:
    """Deleting what is not there is an error."""
    with pytest.raises(ModelNotFound):
        library.delete("nothing")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema": 2}', b'{"schema": 1, "x": 1}'])
def test_broken_manifest_is_left_out(damage: bytes, library: ModelLibrary) -> None:
    """A manifest that cannot be read hides its model only."""
    library.create("a", from_="toy-nano")
    library.create("b", from_="toy-nano")
    (library.models_dir / "manifests" / "a" / "latest.json").write_bytes(damage)
    assert ["b:latest", "toy-nano:latest"] == names(library)


def test_blob_is_verified(library: ModelLibrary) -> None:
    """A blob with another digest than it claims is not kept, nor is a half of it."""
    with pytest.raises(BadDigest, match="digest"):
        library.put_blob("sha256:" + "0" * 64, [b"a", b"b"])
    assert [] == list((library.models_dir / "blobs").iterdir())


def test_broken_upload_leaves_nothing(library: ModelLibrary) -> None:
    """An upload that breaks off leaves no file."""

    def broken() -> Iterator[bytes]:
        yield good_bytes()[:100]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        library.put_blob(GOOD, broken())
    assert [] == list((library.models_dir / "blobs").iterdir())


@pytest.mark.parametrize("digest", ["", "md5:00", "sha256:xyz", "../../etc/passwd"])
def test_bad_digest_is_refused(digest: str, library: ModelLibrary) -> None:
    """What is not a SHA-256 digest is refused, so that no digest is a path."""
    with pytest.raises(BadDigest):
        library.has_blob(digest)


def test_digest_is_computed_once(
    library: ModelLibrary, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read for its digest once, by another process too, and again when it changed."""
    path = put(folder / "a.gguf")
    assert library.get("a").digest == GOOD
    reads: list[object] = []
    file_digest = hashlib.file_digest

    def counted(file: io.BufferedReader, name: str) -> object:
        reads.append(name)
        return file_digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    assert ModelLibrary(folder).get("a").digest == GOOD
    assert reads == []
    path.write_bytes(good_bytes() + b"x")
    assert ModelLibrary(folder).get("a").digest != GOOD
    assert len(reads) == 1


def test_known_digest_does_not_wait(
    library: ModelLibrary, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one file is read for its digest, a model whose digest is known can be used."""
    assert library.get("toy-nano").digest == GOOD
    put(folder / "a.gguf")
    reading, answered = threading.Event(), threading.Event()
    file_digest = hashlib.file_digest

    def slow(file: io.BufferedReader, name: str) -> object:
        reading.set()
        assert answered.wait(timeout=60)
        return file_digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", slow)
    thread = threading.Thread(target=library.get, args=("a",))
    thread.start()
    assert reading.wait(timeout=60)
    assert library.get("toy-nano").digest == GOOD
    answered.set()
    thread.join()


@pytest.mark.parametrize("damage", ["{", "[]", '{"version": 1, "files": {"a": 3}}', "null"])
def test_broken_digest_cache_is_rebuilt(damage: str, library: ModelLibrary, folder: Path) -> None:
    """A digest cache that cannot be read is computed anew."""
    put(folder / "a.gguf")
    (folder / ".digests.json").write_text(damage)
    assert library.get("a").digest == GOOD
    assert "files" in json.loads((folder / ".digests.json").read_text())


def test_digest_without_a_place_for_the_cache(
    library: ModelLibrary, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk digests are still computed."""

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    put(folder / "a.gguf")
    monkeypatch.setattr(os, "fsync", full)
    assert [GOOD, GOOD] == [model.digest for model in library.list()]
    assert [folder / "a.gguf"] == list(folder.iterdir())


def test_many_threads(library: ModelLibrary, folder: Path) -> None:
    """Threads that list, make and delete at the same time see whole models only."""
    put(folder / "a.gguf")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(8):
                library.create(f"n{number}", from_="a")
                assert library.get(f"n{number}").digest
                library.list()
                library.delete(f"n{number}")
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("Llama3.2:1B", "llama3.2:1b"),
        ("me/a:b", "me/a:b"),
        ("library/a", "a:latest"),
        ("a:", "a:latest"),
    ],
)
def test_name_in_full(text: str, expected: str) -> None:
    """A name is compared without regard to case, and its default tag is shown."""
    assert expected == str(parse_name(text))


@given(st.text())
def test_every_stem_gives_a_legal_name(stem: str) -> None:
    """Whatever a file is called, the name made of it can be asked for."""
    name = name_of_stem(stem)
    assert name == parse_name(name).name
