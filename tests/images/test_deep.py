"""Pictures of 16 bits a channel: read to the last bit or refused, and one rule makes 8 of them."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from inpformer.encoders.settings import EncoderSettings
from inpformer.errors import UserError
from inpformer.images import deep
from inpformer.images.deep import WHITE, DeepPicture, levels
from inpformer.images.opening import MAX_PIXELS, TooLargeError, open_as_it_is, open_image
from inpformer.images.transform import Transform
from tests.images.deep_files import DEFLATE, LZW, NONE, Values, chunk, png, pnm, rule, tiff, values

GREY, COLOUR = values(), values(channels=3)


def saved(found: Values, format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(found).save(file, format)
    return file.getvalue()


FILES: dict[str, tuple[bytes, Values]] = {
    "png": (png(GREY), GREY),
    "png of Pillow": (saved(GREY, "PNG"), GREY),
    "png, filtered": (png(GREY, filters=(1, 0)), GREY),
    "png, interlaced": (png(GREY, interlaced=True), GREY),
    "png, a transparent grey": (png(GREY, extra=chunk(b"tRNS", b"\1\1")), GREY),
    "png, a transparent colour": (png(COLOUR, extra=chunk(b"tRNS", b"\1\1" * 3)), COLOUR),
    "colour png": (png(COLOUR), COLOUR),
    "colour png, filtered": (png(COLOUR, filters=(0, 1, 1)), COLOUR),
    "colour png, interlaced": (png(COLOUR, interlaced=True, filters=(1, 0)), COLOUR),
    "pgm": (pnm(GREY), GREY),
    "pgm of 12 bits": (pnm(GREY % 4096, 4095), GREY % 4096),
    "pgm of 10 bits": (pnm(GREY % 1024, 1023), GREY % 1024),
    "ppm": (pnm(COLOUR), COLOUR),
    "ppm of 12 bits": (pnm(COLOUR % 4096, 4095), COLOUR % 4096),
    "tiff of Pillow": (saved(GREY, "TIFF"), GREY),
}
for order, name in (("<", "little"), (">", "big")):
    for compression, packed in ((NONE, ""), (LZW, ", LZW"), (DEFLATE, ", deflate")):
        for strips in (1, 5):
            FILES[f"{name} tiff{packed}, {strips}"] = (tiff(GREY, order, compression, strips), GREY)
            FILES[f"{name} colour tiff{packed}, {strips}"] = (tiff(COLOUR, order, compression, strips), COLOUR)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("white", [WHITE, 4095])
def test_each_value_becomes_what_the_rule_says(name: str, white: int) -> None:
    content, found = FILES[name]
    image = open_image(content, "it", white)
    assert image.mode == ("L" if found.ndim == 2 else "RGB")
    np.testing.assert_array_equal(np.asarray(image), rule(found, white))
    image.convert("L").convert("RGB")


@pytest.mark.parametrize("name", FILES)
def test_the_largest_value_is_the_files(name: str) -> None:
    content, found = FILES[name]
    picture = open_as_it_is(content, "it")
    assert isinstance(picture, DeepPicture)
    assert (picture.size, picture.largest) == (found.shape[1::-1], found.max())


def test_a_large_picture_is_made_of_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "PIXELS_AT_A_TIME", 200)
    for name in ("png", "colour png", "big colour tiff, LZW, 5"):
        content, found = FILES[name]
        np.testing.assert_array_equal(np.asarray(open_image(content, "it", 4095)), rule(found, 4095))
        picture = open_as_it_is(content, "it")
        assert isinstance(picture, DeepPicture)
        assert picture.largest == 65535


@pytest.mark.parametrize("white", [255, 300, 1023, 4095, 4096, 16383, 65534, 65535])
def test_the_rule_is_in_whole_numbers_what_it_is_in_real_ones(white: int) -> None:
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(levels(white), rule(every, white))
    assert (levels(white)[0], levels(white)[white], levels(white)[65535]) == (0, 255, 255)


def test_some_values_by_hand() -> None:
    assert [levels(WHITE)[value] for value in (0, 128, 129, 257, 32767, 32768, 65535)] == [0, 0, 1, 1, 127, 128, 255]
    assert [levels(4095)[value] for value in (0, 8, 9, 2047, 2048, 4095, 4096)] == [0, 0, 1, 127, 128, 255, 255]


def test_two_pictures_of_one_part_stay_comparable() -> None:
    """No picture is scaled by its own maximum."""
    dark, bright = np.full((8, 8), 1000, np.uint16), np.full((8, 8), 2000, np.uint16)
    greys = [open_image(png(found), "it", 4095).getpixel((0, 0)) for found in (dark, bright)]
    assert greys == [62, 125]


@pytest.mark.parametrize("white", [255, 4095, WHITE])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_eight_bits_are_left_as_they_are(mode: str, white: int) -> None:
    file = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).convert(mode).save(file, "PNG")
    image = open_image(file.getvalue(), "it", white)
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image), np.asarray(open_image(file.getvalue(), "it")))


def float_tiff() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(file, "TIFF")
    return file.getvalue()


def integer_tiff() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(file, "TIFF")
    return file.getvalue()


SIGNED, WHITE_IS_ZERO, REVERSED, APART = {339: 2}, {262: 0}, {266: 2}, {284: 2}
REFUSED: dict[str, Callable[[], bytes]] = {
    "png with alpha": lambda: png(values(channels=2)),
    "colour png with alpha": lambda: png(values(channels=4)),
    "signed tiff": lambda: tiff(GREY, tags=SIGNED),
    "signed big tiff": lambda: tiff(GREY, ">", tags=SIGNED),
    "tiff in which 0 is white": lambda: tiff(GREY, tags=WHITE_IS_ZERO),
    "tiff that does not say what is white": lambda: tiff(GREY, tags={262: 0}),
    "tiff with bits from behind": lambda: tiff(GREY, tags=REVERSED),
    "deflated tiff with bits from behind": lambda: tiff(GREY, compression=DEFLATE, tags=REVERSED),
    "tiff of 12 bits": lambda: tiff(GREY, tags={258: 12}),
    "tiff with its planes apart": lambda: tiff(COLOUR, tags=APART),
    "deflated tiff with its planes apart": lambda: tiff(COLOUR, compression=DEFLATE, tags=APART),
    "tiff with alpha": lambda: tiff(values(channels=4), tags={262: 2, 338: 2}),
    "tiff in the colours of printing": lambda: tiff(values(channels=4), tags={262: 5}),
    "tiff of floats": float_tiff,
    "tiff of 32 bits": integer_tiff,
    "plain pgm": lambda: b"P2 2 2 65535\n1 2 3 4\n",
    "plain ppm": lambda: b"P3 2 2 65535\n" + b"4095 " * 12,
    "pfm": lambda: b"Pf\n2 2\n-1.0\n" + bytes(16),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_exactly_is_refused_in_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = REFUSED[name]()
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"^it has more than 8 bits a channel, but not 16 without a sign.*8 bit\.$"):
        open_image(content, "it", 4095)


@pytest.mark.parametrize("name", FILES)
def test_without_a_white_as_of_masks_deep_ones_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^it has more than 8 bits a channel \(mode .*\): convert it to 8 bit\.$"):
        open_image(FILES[name][0], "it")


@pytest.mark.parametrize("name", [name for name in FILES if "," not in name])
def test_a_truncated_one_is_named(name: str) -> None:
    with pytest.raises(UserError, match=r"^it is a damaged or truncated image"):
        open_image(FILES[name][0][:-1800], "it", WHITE)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    side = int(MAX_PIXELS**0.5) + 1
    files = []
    for small in (values(1, 1), values(1, 1, 3)):
        files += [png(small, claimed=(side, side)), tiff(small, tags={256: side, 257: side})]
        files.append(pnm(small).replace(b"\n1 1\n", f"\n{side} {side}\n".encode()))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr(Image, "frombytes", lambda *args: pytest.fail("decoded"))
    for content in files:
        with pytest.raises(TooLargeError, match=rf"^it has {side}×{side} pixels"):
            open_image(content, "it", WHITE)


def test_the_note_of_a_turn_is_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "PNG", exif=exif)
    assert open_image(file.getvalue(), "it", WHITE).getexif()[0x0112] == 6


def test_the_transform_opens_by_its_own_white_and_refuses_what_it_has_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(GREY))
    transform = Transform(8, 8, (0.0,) * 3, (1.0,) * 3, white=4095)
    for image in (transform.open(tmp_path / "a.png"), transform.open(png(GREY), "it")):
        np.testing.assert_array_equal(np.asarray(image), rule(GREY, 4095))
    small = transform.picture(Image.fromarray(rule(GREY, 4095)))
    np.testing.assert_array_equal(transform.picture(transform.open(tmp_path / "a.png")), small)
    with Image.open(tmp_path / "a.png") as image, pytest.raises(UserError, match=r"mode I;16.*`open`"):
        transform.picture(image)
    with pytest.raises(UserError, match=r"gone\.png is missing"):
        transform.open(tmp_path / "gone.png")


@pytest.mark.parametrize("white", [-1, 0, 254, 65536])
def test_an_impossible_white_is_refused(white: int) -> None:
    with pytest.raises(UserError, match=rf"^white is {white}: it must be between 255 and 65535"):
        EncoderSettings(white=white)
