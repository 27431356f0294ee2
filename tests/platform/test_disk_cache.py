"""The cache on the local disk: bounded whoever fills it, and never wrong."""

import multiprocessing
from pathlib import Path

import pytest

from pipelines.platform.disk_cache import DiskCache

KILOBYTE = 1000


def used(folder: Path) -> int:
    """The bytes in its files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.name != "total")


def fill(folder: Path, letter: str) -> None:
    cache = DiskCache(folder, 20 * KILOBYTE)
    for n in range(60):
        cache.put(f"{letter}{n}", letter.encode() * KILOBYTE)
        with cache._total() as total:  # nobody else changes it while we look
            assert total[0] == used(folder) <= 20 * KILOBYTE


def test_what_was_asked_for_last_stays(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 10 * KILOBYTE)
    for n in range(9):
        cache.put(str(n), bytes([n]) * KILOBYTE)
    assert cache.get("0") == bytes(KILOBYTE)
    cache.put("9", b"9" * KILOBYTE)
    assert cache.get("0") == bytes(KILOBYTE)
    assert cache.get("1") is None
    assert cache.get("9") == b"9" * KILOBYTE
    assert used(tmp_path) <= 10 * KILOBYTE


def test_several_processes_stay_within_the_bound_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=fill, args=(tmp_path, letter)) for letter in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert 10 * KILOBYTE < used(tmp_path) <= 20 * KILOBYTE
    assert int((tmp_path / "total").read_text()) == used(tmp_path)


def test_damaged_content_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 10 * KILOBYTE)
    cache.put("a", b"content")
    (file,) = (f for f in tmp_path.rglob("*") if f.is_file() and f.name != "total")
    file.write_bytes(b"c0ntent" + file.read_bytes()[-4:])
    assert cache.get("a") is None
    cache.put("a", b"content")
    assert cache.get("a") == b"content"


@pytest.mark.parametrize("limit", [0, 5])
def test_what_does_not_fit_is_not_kept(tmp_path: Path, limit: int) -> None:
    cache = DiskCache(tmp_path, limit)
    cache.put("a", b"content")
    assert cache.get("a") is None
    assert not list(tmp_path.iterdir())


def test_a_disk_that_takes_nothing_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    cache = DiskCache(tmp_path / "cache", KILOBYTE)
    cache.put("a", b"content")
    assert cache.get("a") is None


@pytest.mark.parametrize("left", ["", "\0\0\0"])
def test_a_lost_total_is_counted_anew(tmp_path: Path, left: str) -> None:
    cache = DiskCache(tmp_path, 10 * KILOBYTE)
    cache.put("a", b"a" * KILOBYTE)
    (tmp_path / "total").write_text(left)
    cache.put("b", b"b" * KILOBYTE)
    assert int((tmp_path / "total").read_text()) == used(tmp_path) == 2 * (KILOBYTE + 4)
