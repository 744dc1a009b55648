"""What every Blobs engine promises: whole or not at all, by name, in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mainstem.errors import Invalid, NotFound
from mainstem.storage import Blobs
from mainstem.storage.embedded.blobs import FolderBlobs


def folder(home: Path) -> Blobs:
    for name in ("blobs", "tmp"):
        (home / name).mkdir(exist_ok=True)
    return FolderBlobs(home / "blobs", home / "tmp")


ENGINES: list[Callable[[Path], Blobs]] = [folder]


@pytest.fixture(params=ENGINES)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return request.param(tmp_path)  # type: ignore[no-any-return]


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def all_names(blobs: Blobs, prefix: str = "") -> list[str]:
    return [name async for name in blobs.list(prefix)]


@pytest.mark.parametrize("content", [b"", b"hello", b"x" * 3_000_000])
async def test_what_is_written_is_read(blobs: Blobs, content: bytes) -> None:
    written = await blobs.write("renditions/ab12/segment_00001.ts", content)

    assert await blobs.read("renditions/ab12/segment_00001.ts") == content
    assert written.size == len(content)
    assert await blobs.info("renditions/ab12/segment_00001.ts") == written


async def test_a_blob_may_come_in_pieces(blobs: Blobs) -> None:
    await blobs.write("a", pieces(b"hel", b"", b"lo"))

    assert await blobs.read("a") == b"hello"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, None, b"hello"), (1, 3, b"el"), (4, 99, b"o"), (5, None, b""), (9, None, b""), (3, 3, b""), (3, 1, b"")],
)
async def test_a_range_is_read_as_python_slices(blobs: Blobs, start: int, end: int | None, expected: bytes) -> None:
    await blobs.write("a", b"hello")

    assert await blobs.read("a", start, end) == expected


async def test_writing_again_replaces_the_whole_and_changes_the_etag(blobs: Blobs) -> None:
    before = await blobs.write("a", b"longer than what comes")
    after = await blobs.write("a", b"short")

    assert await blobs.read("a") == b"short"
    assert before.etag != after.etag


async def test_a_rewrite_of_the_same_length_has_another_etag(blobs: Blobs) -> None:
    assert len({(await blobs.write("a", bytes([number]))).etag for number in range(10)}) == 10


async def test_a_write_that_fails_leaves_what_was_there(blobs: Blobs) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError

    await blobs.write("a", b"before")
    for name in ("a", "b"):
        with pytest.raises(RuntimeError):
            await blobs.write(name, breaks())

    assert await blobs.read("a") == b"before"
    assert await all_names(blobs) == ["a"]


async def test_a_write_that_is_cancelled_leaves_what_was_there(blobs: Blobs) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    await blobs.write("a", b"before")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(blobs.write("a", endless()), 0.05)

    assert await blobs.read("a") == b"before"
    assert await all_names(blobs) == ["a"]


async def test_a_blob_appears_only_when_it_is_whole(blobs: Blobs) -> None:
    async def watched() -> AsyncIterator[bytes]:
        yield b"half"
        assert await blobs.info("a") is None
        assert await all_names(blobs) == []
        yield b"whole"

    await blobs.write("a", watched())

    assert await blobs.read("a") == b"halfwhole"


async def test_local_files_become_blobs(blobs: Blobs, tmp_path: Path) -> None:
    await blobs.write("a/2", b"before")
    files = {f"a/{number}": tmp_path / f"local-{number}" for number in range(3)}
    for name, path in files.items():
        path.write_bytes(name.encode())

    await blobs.adopt(files)

    assert [await blobs.read(name) for name in files] == [name.encode() for name in files]
    assert not any(path.exists() for path in files.values())


async def test_a_local_file_that_is_missing_becomes_no_blob(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await blobs.adopt({"a": tmp_path / "missing"})

    assert await blobs.info("a") is None


async def test_a_blob_is_copied_to_a_local_file(blobs: Blobs, tmp_path: Path) -> None:
    await blobs.write("a", b"hello")
    await blobs.copy("a", tmp_path / "local")
    await blobs.delete("a")

    assert (tmp_path / "local").read_bytes() == b"hello"
    with pytest.raises(NotFound):
        await blobs.copy("a", tmp_path / "again")


async def test_what_is_not_there_is_not_found(blobs: Blobs) -> None:
    await blobs.write("a/b", b"")

    for name in ("c", "a", "a/b/c", "a/c"):
        assert await blobs.info(name) is None
        with pytest.raises(NotFound):
            await blobs.read(name)


async def test_a_deleted_blob_is_gone_and_may_be_deleted_again(blobs: Blobs) -> None:
    await blobs.write("a/b/c", b"")
    await blobs.write("a/d", b"")

    for _ in range(2):
        await blobs.delete("a/b/c")

    assert await all_names(blobs) == ["a/d"]
    await blobs.write("a/b/c", b"again")


async def test_names_are_listed_in_order_of_their_characters(blobs: Blobs) -> None:
    """A slash is a character like any other: it comes after `-` and before `0`."""
    names = ["b", "é", "a0", "a-b", "a/b/c/d", "a/b-c/x"]
    for name in names:
        await blobs.write(name, b"")

    assert await all_names(blobs) == sorted(names)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("a/", ["a/1", "a/2", "a/20/x"]),
        ("a/2", ["a/2", "a/20/x"]),
        ("a/20/", ["a/20/x"]),
        ("b", ["b"]),
        ("c/d", []),
        ("a/1/", []),
        ("../", []),
        ("/", []),
    ],
)
async def test_a_prefix_need_not_end_at_a_slash(blobs: Blobs, prefix: str, expected: list[str]) -> None:
    for name in ("a/1", "a/2", "a/20/x", "b"):
        await blobs.write(name, b"")

    assert await all_names(blobs, prefix) == expected


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "a\0b"])
async def test_a_name_that_could_leave_its_place_is_refused(blobs: Blobs, name: str) -> None:
    for attempt in (
        blobs.write(name, b""),
        blobs.read(name),
        blobs.info(name),
        blobs.delete(name),
        blobs.adopt({name: Path("local")}),
        blobs.copy(name, Path("local")),
    ):
        with pytest.raises(Invalid):
            await attempt


async def test_writers_of_the_same_name_leave_one_of_their_blobs_whole(blobs: Blobs) -> None:
    contents = [bytes([number]) * 100_000 for number in range(8)]

    await asyncio.gather(*[blobs.write("a", content) for content in contents])

    assert await blobs.read("a") in contents
    assert await all_names(blobs) == ["a"]


async def test_writing_and_deleting_in_one_folder_at_once_loses_no_write(blobs: Blobs) -> None:
    """Empty folders are taken away, but never from under somebody who writes."""

    async def come_and_go() -> None:
        for _ in range(30):
            await blobs.write("a/b/gone", b"")
            await blobs.delete("a/b/gone")

    async def stay() -> None:
        for number in range(30):
            await blobs.write(f"a/b/{number}", b"")
            await blobs.delete(f"a/b/{number}")

    await asyncio.gather(come_and_go(), stay())
    assert await all_names(blobs) == []
