"""The feature store: what comes back, and what becomes of damaged and half-written shards."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inpformer.errors import UserError
from inpformer.store import FeatureStore, batches


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def features(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 2, 4, 8, generator=torch.Generator().manual_seed(seed))


def shards(store: FeatureStore) -> list[Path]:
    return sorted(store.folder.glob("*.safetensors"))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Holds a, b and c in one shard and d in another."""
    store = FeatureStore(tmp_path / "features", "key")
    store.add([digest(n) for n in "abc"], features(3))
    store.add([digest("d")], features(1, seed=1))
    return store


def test_features_come_back_in_16_bit_in_the_order_asked_for(store: FeatureStore) -> None:
    places = store.places()
    assert set(places) == {digest(n) for n in "abcd"}
    wanted = torch.cat([features(1, seed=1), features(3)[[2, 0, 2]]]).half()
    assert torch.equal(store.read([places[digest(n)] for n in "dcac"]), wanted)


def test_batches_cover_the_order_with_a_shorter_last_one(store: FeatureStore) -> None:
    order = [digest(n) for n in "dcabc"]
    read = list(batches(store, store.places(), order, 2))
    assert [len(batch) for batch in read] == [2, 2, 1]
    assert torch.equal(torch.cat(read), torch.cat([features(1, seed=1), features(3)[[2, 0, 1, 2]]]).half())


def test_a_shard_is_named_by_its_own_bytes(store: FeatureStore) -> None:
    assert len(shards(store)) == 2
    assert all(hashlib.sha256(shard.read_bytes()).hexdigest() == shard.stem for shard in shards(store))
    assert {place.shard for place in store.places().values()} == {shard.stem for shard in shards(store)}


def test_the_same_images_again_are_the_same_shard(store: FeatureStore) -> None:
    store.add([digest(n) for n in "abc"], features(3))
    assert len(shards(store)) == 2


def test_an_image_in_two_shards_is_found_once(store: FeatureStore) -> None:
    store.add([digest("e"), digest("a")], torch.cat([features(1, seed=2), features(3)[:1]]))
    places = store.places()
    assert set(places) == {digest(n) for n in "abcde"}
    assert torch.equal(store.read([places[digest("a")]]), features(3)[:1].half())


def test_encoders_do_not_see_each_others_shards(store: FeatureStore) -> None:
    assert FeatureStore(store.folder.parent, "other").places() == {}


def test_what_a_killed_run_leaves_is_ignored(store: FeatureStore) -> None:
    (store.folder / ".123.tmp").write_bytes(shards(store)[0].read_bytes())
    assert len(store.places()) == 4
    assert [p for p in store.folder.iterdir() if p.name != ".123.tmp"] == shards(store)


@pytest.mark.parametrize("length", [0, 5, 300, -1])
def test_a_truncated_shard_is_as_if_it_were_not_there(store: FeatureStore, length: int) -> None:
    shard = store.places()[digest("d")].shard
    path = store.folder / f"{shard}.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    assert set(store.places()) == {digest(n) for n in "abc"}
    assert store.discard_damaged([p.stem for p in shards(store)]) == [shard]


def test_a_flipped_byte_is_found_and_removed(store: FeatureStore) -> None:
    shard, other = store.places()[digest("a")].shard, store.places()[digest("d")].shard
    path = store.folder / f"{shard}.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-20] ^= 1
    path.write_bytes(damaged)
    store.verify([other])
    with pytest.raises(
        UserError, match=rf"{shard}\.safetensors has a wrong digest: run `dvc repro --force --single-item features`"
    ):
        store.verify([other, shard])
    assert store.discard_damaged([other, shard]) == [shard]
    assert [p.stem for p in shards(store)] == [other]
    with pytest.raises(
        UserError, match=rf"{shard}\.safetensors is missing: run `dvc repro --force --single-item features`"
    ):
        store.verify([shard])


@pytest.mark.parametrize("value", [1e6, -7e4, float("nan")])
def test_values_beyond_16_bit_are_refused(store: FeatureStore, value: float) -> None:
    broken = features(1)
    broken[0, 1, 2, 3] = value
    with pytest.raises(UserError, match="beyond 16 bit: check its weights and the images' transform"):
        store.add([digest("e")], broken)
    assert len(shards(store)) == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=rf"the feature store {tmp_path}/features/key takes no shard .*free or change"):
        FeatureStore(tmp_path / "features", "key").add([digest("a")], features(1))
