"""The feature store: what comes back, and what becomes of damaged and half-written shards."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from inpformer.errors import StaleFeaturesError, UserError
from inpformer.features import SHARD_IMAGES
from inpformer.features.objects import Folder
from inpformer.features.shard import HEADER_BYTES, key_array, pack, unpack_header
from inpformer.features.store import FeatureStore, Known
from inpformer.features.view_table import Views, Wanted, write_table


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def features(count: int, seed: int = 0) -> list[Tensor]:
    """Two levels, each on its own grid."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 16, 3, generator=generator), torch.randn(count, 4, 8, generator=generator)]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(torch.equal(a, b.half()) for a, b in zip(ours, theirs, strict=True))


def shards(store: FeatureStore) -> list[Path]:
    return sorted((Path(store.objects.address) / store.encoder_key).glob("*.safetensors"))


def names(known: Known) -> set[str]:
    """Which of a to e are known."""
    return {n for n in "abcde" if known.find(key_array([digest(n)]))[0] >= 0}


def shard_of(known: Known, name: str) -> str:
    return known.shards[known.shard[known.find(key_array([digest(name)]))[0]]]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Holds a, b and c in one shard and d in another."""
    store = FeatureStore(Folder(tmp_path / "features"), "key")
    store.add([digest(n) for n in "abc"], features(3))
    store.add([digest("d")], features(1, seed=1))
    return store


def table(store: FeatureStore, train: str, val: str = "", categories: str | None = None) -> str:
    """Writes the table of these views; `categories` names that of each, a letter each."""
    letters = train + val
    of = categories or "x" * len(letters)
    known = sorted(set(of))
    wanted = Wanted.of(
        np.array([0] * len(train) + [1] * len(val), np.int8),
        key_array([digest(n) for n in letters]),
        np.array([known.index(c) for c in of], np.int16),
        known,
    )
    write_table(store, wanted, store.scan())
    return wanted.digest


def order(letters: str) -> list[str]:
    """The order in which a split numbers its views: that of their keys."""
    return sorted(letters, key=digest)


def test_features_come_back_in_16_bit_in_the_order_asked_for(store: FeatureStore) -> None:
    views = Views(store, table(store, "abc", "d"))
    assert (views.count("train"), views.count("val")) == (3, 1)
    places = ["abc".index(n) for n in order("abc")]
    assert same(views.read("train", [2, 0, 2]), [level[places][[2, 0, 2]] for level in features(3)])
    assert same(views.read("val", [0]), features(1, seed=1))


def test_a_category_has_its_own_views_and_shared_ones_count_once_in_all(store: FeatureStore) -> None:
    shared = table(store, "abab", "d", categories="nnmmm")
    assert [Views(store, shared, c).count("train") for c in (None, "m", "n")] == [2, 2, 2]
    assert [Views(store, shared, c).count("val") for c in (None, "m", "n")] == [1, 1, 0]
    assert same(Views(store, shared, "n").read("train", [0, 1]), Views(store, shared).read("train", [0, 1]))


def test_views_know_their_category_and_shared_ones_the_first_that_has_them(store: FeatureStore) -> None:
    views = Views(store, table(store, "abc", "d", categories="nnmm"))
    expected = [{"a": 1, "b": 1, "c": 0}[letter] for letter in order("abc")]
    assert views.categories("train", [2, 0, 1]) == [expected[n] for n in (2, 0, 1)]
    assert views.categories("val", [0]) == [0]
    shared = table(store, "abab", "d", categories="nnmmm")
    assert Views(store, shared).categories("train", [0, 1]) == [0, 0]
    assert Views(store, shared, "n").categories("train", [1]) == [1]
    left_out = Views(store, table(store, "abc", "d", categories="nnmm"), left_out=key_array([digest("a")]))
    of_others = [{"b": 1, "c": 0, "d": 0}[letter] for letter in order("bcd")]
    assert left_out.categories("val", [0]) == [1]
    assert left_out.categories("train", range(3)) == of_others


def test_a_table_is_named_by_what_it_lists_not_by_where_that_lies(store: FeatureStore, tmp_path: Path) -> None:
    other = FeatureStore(Folder(tmp_path / "other"), "key")
    other.add([digest(n) for n in "dcba"], features(4, seed=3))
    assert table(store, "abc", "d") == table(other, "cba", "d")
    assert len({table(store, "abc", "d"), table(store, "abcd"), table(store, "ab", "cd")}) == 3
    assert table(store, "ab", categories="mn") != table(store, "ab", categories="nm")


def test_a_shard_is_named_by_its_own_bytes(store: FeatureStore) -> None:
    assert len(shards(store)) == 2
    assert all(hashlib.sha256(shard.read_bytes()).hexdigest() == shard.stem for shard in shards(store))
    assert set(store.scan().shards) == {shard.stem for shard in shards(store)}


def test_one_read_of_a_bucket_gets_the_header_of_a_full_shard() -> None:
    keys = [digest(str(n)) for n in range(SHARD_IMAGES)]
    content = pack(keys, [torch.zeros(SHARD_IMAGES, 1, 8)] * 8)
    header = unpack_header(content[:HEADER_BYTES])
    assert header is not None
    assert header.size == len(content)
    assert header.keys.tobytes().hex() == "".join(keys)


def test_the_same_images_again_are_the_same_shard(store: FeatureStore) -> None:
    for _ in range(8):
        store.add([digest(n) for n in "abc"], features(3))
    assert len(shards(store)) == 2


def test_an_image_in_two_shards_is_found_once(store: FeatureStore) -> None:
    store.add(
        [digest("e"), digest("a")],
        [torch.cat([e, a[:1]]) for e, a in zip(features(1, seed=2), features(3), strict=True)],
    )
    known = store.scan()
    assert (len(known.keys), names(known)) == (5, set("abcde"))
    assert same(Views(store, table(store, "a")).read("train", [0]), [level[:1] for level in features(3)])


def test_encoders_do_not_see_each_others_shards(store: FeatureStore) -> None:
    assert len(FeatureStore(store.objects, "other").scan().keys) == 0


def test_what_a_killed_run_leaves_is_ignored(store: FeatureStore) -> None:
    (shards(store)[0].parent / ".123.tmp").write_bytes(shards(store)[0].read_bytes())
    assert names(store.scan()) == set("abcd")
    assert len(store.scan().shards) == 2


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_shard_is_as_if_it_were_not_there(store: FeatureStore, length: int) -> None:
    views = Views(store, table(store, "abcd"))
    shard = shard_of(store.scan(), "d")
    path = Path(store.objects.address) / store.name(shard)
    path.write_bytes(path.read_bytes()[:length])
    assert names(store.scan()) == set("abc")
    with pytest.raises(StaleFeaturesError, match=rf"{shard}\.safetensors is missing or cut off"):
        views.refuse_missing()
    assert store.discard_damaged([p.stem for p in shards(store)]) == [shard]


def test_a_flipped_byte_is_found_when_its_row_is_read_and_removed(store: FeatureStore) -> None:
    views = Views(store, table(store, "ab", "d"))
    shard, other = shard_of(store.scan(), "a"), shard_of(store.scan(), "d")
    path = Path(store.objects.address) / store.name(shard)
    damaged = bytearray(path.read_bytes())
    row_c = unpack_header(bytes(damaged)).start + 2 * (16 * 3 + 4 * 8) * 2  # type: ignore[union-attr]
    damaged[row_c + 5] ^= 1
    path.write_bytes(damaged)
    views.refuse_missing()
    assert len(views.read("train", [0, 1])[0]) == 2  # other rows of that shard are whole
    damaged[row_c - 1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StaleFeaturesError, match=rf"{shard}\.safetensors is damaged: .*compute the features again"):
        views.read("train", [0, 1])
    assert len(views.read("val", [0])[0]) == 1
    assert store.discard_damaged([other, shard]) == [shard]
    assert [p.stem for p in shards(store)] == [other]
    with pytest.raises(StaleFeaturesError, match=rf"{shard}\.safetensors is missing"):
        views.read("train", [0])


def test_views_that_the_store_lacks_get_no_table(store: FeatureStore) -> None:
    with pytest.raises(UserError, match=r"1 views are not in the store .* a place that all machines see"):
        table(store, "abe")


def test_what_a_killed_writer_left_is_removed_after_an_hour(store: FeatureStore) -> None:
    old, new = (shards(store)[0].parent / name for name in (".1.tmp", ".2.tmp"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    store.add([digest("e")], features(1, seed=2))
    assert (old.exists(), new.exists()) == (False, True)


def test_a_store_without_the_table_is_refused(store: FeatureStore) -> None:
    with pytest.raises(StaleFeaturesError, match="lacks the features of this data set: compute them again"):
        Views(store, "0" * 64)
    path = Path(store.objects.address) / "key/tables" / f"{table(store, 'a')}.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StaleFeaturesError, match=rf"the table {path} is damaged: compute the features again"):
        Views(store, path.stem)


@pytest.mark.parametrize("value", [1e6, -7e4, float("nan")])
def test_values_beyond_16_bit_are_refused(store: FeatureStore, value: float) -> None:
    broken = features(1)
    broken[1][0, 2, 3] = value
    with pytest.raises(UserError, match="beyond 16 bit: check its weights and the images' transform"):
        store.add([digest("e")], broken)
    assert len(shards(store)) == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=rf"the feature store {tmp_path}/features takes no file .*free or change"):
        FeatureStore(Folder(tmp_path / "features"), "key").add([digest("a")], features(1))
