"""Objects in S3 that commands read and write, by the AWS settings of the environment."""

from typing import TYPE_CHECKING, BinaryIO

from videoanalysis.cli import ending
from videoanalysis.errors import InvalidInput

if TYPE_CHECKING:
    from videoanalysis.storage import S3Uri


async def put(uri: "S3Uri", data: bytes | BinaryIO) -> None:
    from videoanalysis.storage import Storage

    async with Storage.open() as storage:
        await storage.write(uri, data, "application/octet-stream")


def s3_uri(text: str, option: str) -> "S3Uri":
    with ending.extra("ingress"):
        from videoanalysis.storage import S3Uri

    try:
        return S3Uri.parse(text, option)
    except InvalidInput as error:
        ending.misuse(error.message)
