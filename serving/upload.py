"""From the body of a request to an image, with a sentence and a 4xx status for everything that is none."""

import io
from collections.abc import AsyncGenerator

from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from inpformer.errors import UserError
from inpformer.images.depth import refuse_deep
from serving.answers import RequestError

FIELD = "image"
# No vector formats: Pillow would hand an EPS upload to an external interpreter.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# 192 MB as RGB. A few bytes of PNG can claim far more than their upload's size suggests.
MAX_PIXELS = 64_000_000


async def read_upload(request: Request, max_bytes: int) -> bytes:
    """The bytes of the image file: the multipart field "image", or else the whole body.

    Raises RequestError: 413 for a body of more than `max_bytes`, which is not read to its end, and 400 for an empty
    one and for a form without the field.
    """
    body = await _read_body(request, max_bytes)
    content_type = request.headers.get("content-type", "").lower()
    upload = await _form_field(request, body) if content_type.startswith("multipart/form-data") else body
    if not upload:
        raise RequestError(400, "the upload is empty: send an image as the body or as the multipart field image.")
    return upload


def decode(upload: bytes) -> Image.Image:
    """The first frame of an image file as RGB, as it lies in the file: EXIF orientation is not applied.

    Raises RequestError: 400 if it is no image, a damaged one or deeper than 8 bit, 413 for more than MAX_PIXELS.
    """
    try:
        with Image.open(io.BytesIO(upload), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_many_pixels(f"{image.width}×{image.height}")
            refuse_deep(image, "the upload")
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")
    except RequestError:
        raise
    except UserError as error:
        raise RequestError(400, str(error)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels("far too many") from None
    except UnidentifiedImageError:
        raise RequestError(400, f"the upload is not an image in one of the formats {', '.join(FORMATS)}.") from None
    except Exception as error:  # damaged files make Pillow raise a dozen kinds, struct.error and TypeError among them
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise RequestError(400, f"the upload is a damaged or truncated image ({reason}).") from None


async def _read_body(request: Request, max_bytes: int) -> bytes:
    refusal = RequestError(413, f"the upload is larger than the {max_bytes / 2**20:g} MB that this service accepts.")
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise refusal
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise refusal
    return bytes(body)


async def _form_field(request: Request, body: bytes) -> bytes:
    # Starlette's own request.form() would spool a file of any size to disk before it could be refused.
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, whole(), max_files=1, max_fields=8).parse()
    except MultiPartException as error:
        raise RequestError(400, f"the multipart form cannot be read: {error.message.rstrip('.')}.") from None
    try:
        upload = form.get(FIELD)
        if not isinstance(upload, UploadFile):
            raise RequestError(400, f"the multipart form has no file in a field named {FIELD}.")
        return await upload.read()
    finally:
        await form.close()


def _too_many_pixels(size: str) -> RequestError:
    return RequestError(413, f"the image has {size} pixels: at most {MAX_PIXELS:,} are accepted.")
