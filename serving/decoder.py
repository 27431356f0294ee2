"""A process that decodes pictures and nothing else, so that it can be ended at any time: python -m serving.decoder.

Reads on stdin, again and again, the length of an image file and what is white in 16 bits a channel (`REQUEST`), then
the file's content. Answers on stdout with a kind, a width and a height (`HEADER`) and the pixels, or with a kind, 0,
the length of a sentence (`HEADER`) and the sentence.
"""

import argparse
import resource
import struct
import sys
from typing import BinaryIO

from inpformer.errors import UserError
from inpformer.images.opening import TooLargeError, open_image
from serving import children

REQUEST, HEADER = struct.Struct("<QI"), struct.Struct("<BII")
PICTURE, REFUSED, TOO_LARGE = 0, 1, 2
# The largest picture that is opened takes 256 MB in its own mode, of 16 bits a colour 512 before it has 8, and 192 MB
# as RGB; some decoders hold it twice.
MEMORY_BYTES = 2 * 2**30


def main() -> None:
    """Ends with its input."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    requests, answers = sys.stdin.buffer, children.answers()
    while request := requests.read(REQUEST.size):
        length, white = REQUEST.unpack(request)
        answer(requests.read(length), white, answers)
        answers.flush()


def answer(upload: bytes, white: int, answers: BinaryIO) -> None:
    """Writes what comes of one image file."""
    try:
        image = open_image(upload, "the upload", white).convert("RGB")
    except UserError as error:
        sentence = str(error).encode()
        answers.write(HEADER.pack(TOO_LARGE if isinstance(error, TooLargeError) else REFUSED, 0, len(sentence)))
        answers.write(sentence)
        return
    answers.write(HEADER.pack(PICTURE, *image.size))
    answers.write(image.tobytes())


if __name__ == "__main__":
    main()
