"""From the body of a request to an image, with a sentence and a 4xx status for everything that is none."""

from collections.abc import AsyncGenerator

from PIL import Image
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from inpformer.errors import UserError
from inpformer.images.opening import TooLargeError, open_image
from serving.answers import RequestError

FIELD = "image"


async def read_upload(request: Request, max_bytes: int) -> bytes:
    """The bytes of the image file: the multipart field "image", or else the whole body.

    Raises RequestError: 413 for a body of more than `max_bytes`, which is not read to its end, and 400 for an empty
    one and for a form without the field.
    """
    refusal = RequestError(413, f"the upload is larger than the {max_bytes / 2**20:g} MB that this service accepts.")
    body = await read_body(request, max_bytes, refusal)
    content_type = request.headers.get("content-type", "").lower()
    upload = await _form_field(request, body) if content_type.startswith("multipart/form-data") else body
    if not upload:
        raise RequestError(400, "the upload is empty: send an image as the body or as the multipart field image.")
    return upload


def decode(upload: bytes) -> Image.Image:
    """The picture of an image file as RGB.

    Raises RequestError for what `open_image` refuses: 413 for one that is too large, else 400.
    """
    try:
        image = open_image(upload, "the upload")
    except TooLargeError as error:
        raise RequestError(413, str(error)) from None
    except UserError as error:
        raise RequestError(400, str(error)) from None
    return image if image.mode == "RGB" else image.convert("RGB")


async def read_body(request: Request, max_bytes: int, refusal: RequestError) -> bytes:
    """The body of a request. Raises `refusal` for one of more than `max_bytes`, which is not read to its end."""
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
