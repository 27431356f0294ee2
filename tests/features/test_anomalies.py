"""Pictures with defects: made once, always the same, and none of what is held out teaches."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inpformer.encoders.encoder import Encoder
from inpformer.errors import UserError
from inpformer.features.masks import unpack_masks
from inpformer.features.view_table import Views
from inpformer.images.tiling import Tiling
from inpformer.images.views import FORMS
from pipelines.features.anomalies import AnomalyPictures, AnomalyView, Defect, DefectView, anomaly_plan
from pipelines.features.index import FeatureIndex, Plan, compute_features, wanted_views
from pipelines.features.settings import AnomalySettings, FeatureSettings
from pipelines.features.sheet import draw_sheets
from pipelines.manifest.table import Manifest, Row
from pipelines.training.features import training_anomalies
from tests.images.deep_files import png, values


@pytest.fixture
def settings(tmp_path: Path, encoder: Encoder) -> FeatureSettings:
    return FeatureSettings(encoder.settings, store=str(tmp_path / "store"), batch_size=4)


@pytest.fixture
def taught(manifest: Manifest) -> Manifest:
    """The manifest with its defective test image in train: a corner of it is marked."""
    (defective,) = [row for row in manifest.rows if row.label]
    mask = np.zeros((40, 40), np.uint8)
    mask[:20, :20] = 255
    Image.fromarray(mask).save(manifest.root / defective.masks[0])
    rows = [replace(row, split="train", mask_pixels=400) if row.label else row for row in manifest.rows]
    return replace(manifest, rows=rows)


def good(manifest: Manifest, split: str) -> list[Row]:
    return [row for row in manifest.split(split) if not row.label]


def stored(settings: FeatureSettings, index: FeatureIndex) -> Views:
    found = training_anomalies(settings, index)
    assert found is not None
    return found.open()


def keys(manifest: Manifest, plan: Plan[Any]) -> list[str]:
    return [view.key(row.sha256) for row in manifest.rows for view in plan.views(row)]


def made(manifest: Manifest, plan: Plan[Any], row: Row, encoder: Encoder) -> Any:
    pictures: Any = plan.read(row, plan.views(row))
    return pictures.made(encoder.transform)


def test_each_training_image_has_its_variants_and_each_held_out_one_its_own(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    settings = replace(settings, anomalies=AnomalySettings(variants=3))
    index = compute_features(manifest, encoder, settings, None, anomaly_plan(manifest, settings, False))
    views, train, val = stored(settings, index), len(good(manifest, "train")), len(good(manifest, "val"))
    assert (views.count("train"), views.count("val")) == (3 * train, val)
    assert index.views == train + val
    # Again: nothing is made, and the tables are the same.
    assert compute_features(manifest, encoder, settings, None, anomaly_plan(manifest, settings, False)) == index
    assert compute_features(manifest, encoder, settings) == replace(index, anomalies=None)


def test_seed_variant_and_texture_make_another_picture_each(manifest: Manifest, settings: FeatureSettings) -> None:
    def of(**values: Any) -> list[str]:
        changed = replace(settings, anomalies=replace(settings.anomalies, **values))
        return keys(manifest, anomaly_plan(manifest, changed, False))

    first = of()
    assert first == of()
    assert len(set(first)) == len(first)
    assert not set(first) & set(of(seed=1))
    assert not set(first) & set(of(textures="images"))
    assert set(first) < set(of(variants=3))


def test_features_change_where_the_mask_is(manifest: Manifest, settings: FeatureSettings, encoder: Encoder) -> None:
    plan = anomaly_plan(manifest, settings, False)
    views = stored(settings, compute_features(manifest, encoder, settings, None, plan))
    wanted = wanted_views(manifest, plan)
    for row in good(manifest, "train")[:3]:
        for view, one in zip(plan.views(row), made(manifest, plan, row, encoder), strict=True):
            key = np.frombuffer(bytes.fromhex(view.key(row.sha256)), "S32")
            *levels, packed = views.read("train", [int(np.searchsorted(wanted.keys[wanted.split == 0], key)[0])])
            assert one.mask.any()
            mask = unpack_masks(packed)[0].numpy() > 0
            assert mask.mean() == pytest.approx(one.mask.mean())
            changed = (one.good != one.changed).any(axis=-1)
            assert not changed[~one.mask].any()
            expected = encoder.features(encoder.transform.normalised(one.changed)[None])
            for level, features in zip(levels, expected, strict=True):
                torch.testing.assert_close(level.float(), features, rtol=2e-3, atol=2e-3)


def test_a_picture_is_not_its_own_texture(manifest: Manifest, settings: FeatureSettings) -> None:
    plan = anomaly_plan(manifest, replace(settings, anomalies=AnomalySettings(20, "images")), False)
    for row in good(manifest, "train"):
        sources = {view.source.sha256 for view in plan.views(row)}
        assert row.sha256 not in sources
        assert sources <= {other.sha256 for other in good(manifest, "train")}  # what is held out teaches nothing


def test_a_folder_of_textures_is_used_and_an_empty_one_refused(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder, tmp_path: Path
) -> None:
    folder = tmp_path / "textures"
    chosen = replace(settings, anomalies=AnomalySettings(1, str(folder)))
    with pytest.raises(UserError, match=r"features\.anomalies\.textures is "):
        anomaly_plan(manifest, chosen, False)
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (30, 30), (250, 0, 0)).save(folder / "deep/red.png")
    plan = anomaly_plan(manifest, chosen, False)
    before = keys(manifest, plan)
    assert compute_features(manifest, encoder, chosen, None, plan).anomalies is not None
    Image.new("RGB", (30, 30), (0, 250, 0)).save(folder / "deep/red.png")
    with pytest.raises(UserError, match=r"red\.png changed"):  # since the plan was made
        made(manifest, plan, good(manifest, "train")[0], encoder)
    assert not set(before) & set(keys(manifest, anomaly_plan(manifest, chosen, False)))


def test_the_keys_follow_white_where_something_of_sixteen_bits_is_in_a_picture(
    taught: Manifest, settings: FeatureSettings, tmp_path: Path
) -> None:
    def kept(manifest: Manifest, real: bool, **changed: Any) -> tuple[int, int]:
        """How many keys another white leaves as they are, and how many there are."""
        one = replace(settings, anomalies=AnomalySettings(4, **changed))
        other = replace(one, encoder=replace(one.encoder, white=4095))
        before, after = (set(keys(manifest, anomaly_plan(manifest, each, real))) for each in (one, other))
        return len(before & after), len(before)

    same, all_ = kept(taught, True)
    assert same == all_
    first, *others = (row for row in taught.rows if row.split == "train" and not row.label)
    deep = replace(taught, rows=[replace(row, largest=4095) if row == first else row for row in taught.rows])
    assert kept(deep, False) == (all_ - len(FORMS) - 4, all_ - len(FORMS))  # the four made of it
    (defective,) = (row for row in taught.rows if row.label and row.split == "train")
    deep = replace(taught, rows=[replace(row, largest=4095) if row == defective else row for row in taught.rows])
    pasted = [view for row in others for view in anomaly_plan(deep, replace(settings), True).views(row)]
    assert any(isinstance(view.source, Defect) for view in pasted if isinstance(view, AnomalyView))
    same, found = kept(deep, True)
    assert 0 < same < found - len(FORMS)  # nor those into which it is pasted
    (tmp_path / "textures").mkdir()
    (tmp_path / "textures/a.png").write_bytes(png(values(30, 30, most=4095)))
    assert kept(taught, False, textures=str(tmp_path / "textures"))[0] == 0
    Image.new("L", (30, 30)).save(tmp_path / "textures/a.png")
    same, found = kept(taught, False, textures=str(tmp_path / "textures"))
    assert same == found


def test_a_broken_texture_is_named(
    manifest: Manifest, settings: FeatureSettings, encoder: Encoder, tmp_path: Path
) -> None:
    (tmp_path / "textures").mkdir()
    (tmp_path / "textures/broken.png").write_bytes(b"no picture")
    chosen = replace(settings, anomalies=AnomalySettings(1, str(tmp_path / "textures")))
    with pytest.raises(UserError, match=r"broken\.png"):
        made(manifest, anomaly_plan(manifest, chosen, False), good(manifest, "train")[0], encoder)


def test_real_defects_are_learnt_from_and_pasted_in_training_alone(
    taught: Manifest, settings: FeatureSettings, encoder: Encoder
) -> None:
    settings = replace(settings, anomalies=AnomalySettings(variants=8))
    plan = anomaly_plan(taught, settings, True)
    (defective,) = [row for row in taught.rows if row.label]
    whole = plan.views(defective)
    assert [view.view.form for view in whole] == list(range(len(FORMS)))
    pasted = {
        split: [isinstance(view.source, Defect) for row in good(taught, split) for view in plan.views(row)]
        for split in ("train", "val")
    }
    assert 0.25 < np.mean(pasted["train"]) < 0.75
    assert not any(pasted["val"])
    views = stored(settings, compute_features(taught, encoder, settings, None, plan))
    assert views.count("train") == 8 * len(good(taught, "train")) + len(FORMS)
    assert views.count("val") == len(good(taught, "val"))
    # Without them nothing of the defective image is used.
    assert len(anomaly_plan(taught, settings, False).views(defective)) == 0


def test_a_pasted_defect_is_marked(taught: Manifest, settings: FeatureSettings, encoder: Encoder) -> None:
    plan = anomaly_plan(taught, replace(settings, anomalies=AnomalySettings(variants=6)), True)
    row = good(taught, "train")[0]
    views: Sequence[AnomalyView] = [view for view in plan.views(row) if isinstance(view.source, Defect)]
    pictures = plan.read(row, views)
    assert isinstance(pictures, AnomalyPictures)
    for one in pictures.made(encoder.transform):
        assert 0.05 < one.mask.mean() < 0.6  # a quarter of the picture, larger or smaller
        assert (one.good != one.changed).any(axis=-1)[one.mask].mean() > 0.9


def test_a_mask_takes_the_form_of_its_picture(taught: Manifest, settings: FeatureSettings, encoder: Encoder) -> None:
    plan = anomaly_plan(taught, settings, True)
    (defective,) = [row for row in taught.rows if row.label]
    mirrored = next(
        n
        for n, form in enumerate(FORMS)
        if torch.equal(form(torch.eye(5).expand(3, 5, 5)), torch.eye(5).flip(-1).expand(3, 5, 5))
    )
    plain, flipped = (
        plan.read(defective, [plan.views(defective)[n]]).encodables(encoder.transform)[0] for n in (0, mirrored)
    )
    assert plain.mask is not None
    assert flipped.mask is not None
    assert torch.equal(flipped.mask, plain.mask.flip(-1))
    assert torch.equal(flipped.pixels, plain.pixels.flip(-1))


def test_another_mask_is_another_defect(taught: Manifest, settings: FeatureSettings) -> None:
    before = keys(taught, anomaly_plan(taught, settings, True))
    (defective,) = [row for row in taught.rows if row.label]
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(taught.root / defective.masks[0])
    after = keys(taught, anomaly_plan(taught, settings, True))
    assert not {*before[-len(FORMS) :]} & {*after}


def test_of_tiles_those_are_learnt_from_that_are_marked(taught: Manifest, settings: FeatureSettings) -> None:
    tiled = replace(settings, tiling=Tiling(20, 0.0))
    (defective,) = [row for row in taught.rows if row.label]
    views = anomaly_plan(taught, tiled, True).views(defective)
    assert {view.view.window for view in views if isinstance(view, DefectView)} == {(0, 0, 20, 20)}
    assert len(views) == len(FORMS)


def test_semi_supervised_without_a_defect_is_refused(manifest: Manifest, settings: FeatureSettings) -> None:
    with pytest.raises(UserError, match="no training image has a defect with a mask"):
        anomaly_plan(manifest, settings, True)


def test_a_sheet_a_category_shows_what_is_learnt_from(
    taught: Manifest, settings: FeatureSettings, encoder: Encoder, tmp_path: Path
) -> None:
    draw_sheets(taught, anomaly_plan(taught, settings, True), encoder.transform, tmp_path / "drawn")
    (sheet,) = (tmp_path / "drawn").rglob("*.png")
    assert (tmp_path / "drawn/pictures.csv").read_text().split() == ["file,category", "0.png,nut"]
    pixels = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60) & (pixels[..., 2] < 60)
    assert red.sum() > 500  # the outlines
