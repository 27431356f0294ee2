"""Which checksum of S3 decides, and that it sees one wrong bit."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from boto3.s3.transfer import TransferConfig

from pipelines.platform import s3
from pipelines.platform.checksum import ALGORITHMS, kept_by_s3
from tests.s3_server import S3Server

MIB = 1 << 20
BODY = np.random.default_rng(0).bytes(12 * MIB + 345)


def flipped(file: Path) -> Path:
    """The file with its last bit turned."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("algorithm", "value"),  # the check values of the RevEng catalogue
    [("CRC32", "cbf43926"), ("CRC32C", "e3069283"), ("CRC64NVME", "ae8b14860a799888")],
)
def test_crc_by_its_published_check_value(algorithm: str, value: str) -> None:
    digest = ALGORITHMS[algorithm]()
    for byte in b"123456789":
        digest.update(bytes([byte]))
    assert digest.digest().hex() == value


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "CRC64NVME", "CRC32C", "CRC32"])
def test_what_s3_keeps_of_an_object_decides(s3_server: S3Server, tmp_path: Path, algorithm: str) -> None:
    digest = ALGORITHMS[algorithm]()
    digest.update(BODY)
    client, location = s3_server.client(), s3.Location("tests", f"checksum/{algorithm}")
    value = base64.b64encode(digest.digest()).decode()
    client.put_object(Bucket="tests", Key=location.key, Body=BODY, **{f"Checksum{algorithm}": value})
    head = s3.head(client, location)
    if algorithm not in ("SHA256", "SHA1"):
        assert str(kept_by_s3(client, location, head)) == "MD5"  # as it is stronger
        head["ServerSideEncryption"] = "aws:kms"  # then the ETag is no MD5
    check = kept_by_s3(client, location, head)
    assert str(check) == algorithm
    (tmp_path / "file").write_bytes(BODY)
    assert check is not None
    assert check.passes(tmp_path / "file")
    assert not check.passes(flipped(tmp_path / "file"))


def test_an_object_uploaded_in_parts(s3_server: S3Server, tmp_path: Path) -> None:
    client, location = s3_server.client(), s3.Location("tests", "checksum/parts")
    transfer = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    client.upload_fileobj(io.BytesIO(BODY), "tests", location.key, Config=transfer)
    head = s3.head(client, location)
    check = kept_by_s3(client, location, head)
    assert check is not None
    assert (str(check), check.part_size) == ("MD5 of its parts", 5 * MIB)
    (tmp_path / "file").write_bytes(BODY)
    assert check.passes(tmp_path / "file")
    assert not check.passes(flipped(tmp_path / "file"))


def test_parts_of_several_sizes_have_no_check(s3_server: S3Server) -> None:
    client, location = s3_server.client(), s3.Location("tests", "checksum/uneven")
    upload = client.create_multipart_upload(Bucket="tests", Key=location.key)
    where = {"Bucket": "tests", "Key": location.key, "UploadId": upload["UploadId"]}
    parts = []
    for number, size in enumerate((6 * MIB, 5 * MIB, 345), 1):
        part = client.upload_part(**where, PartNumber=number, Body=BODY[:size])
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    assert kept_by_s3(client, location, s3.head(client, location)) is None


def test_an_encrypted_object_without_checksum_has_no_check(s3_server: S3Server) -> None:
    head = {"ETag": '"0123456789abcdef0123456789abcdef"', "ServerSideEncryption": "aws:kms", "ContentLength": 1}
    assert kept_by_s3(s3_server.client(), s3.Location("tests", "k"), head) is None
    head["ServerSideEncryption"] = "AES256"
    assert str(kept_by_s3(s3_server.client(), s3.Location("tests", "k"), head)) == "MD5"
