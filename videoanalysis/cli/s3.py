"""S3 objects named on the command line, with the AWS settings of the environment."""

from typing import TYPE_CHECKING, BinaryIO

from videoanalysis.cli import runner
from videoanalysis.errors import InvalidInput

if TYPE_CHECKING:
    from videoanalysis.storage import S3Uri


async def put(uri: "S3Uri", data: bytes | BinaryIO) -> None:
    from videoanalysis.storage import Storage

    async with Storage.open() as storage:
        await storage.write(uri, data, "application/octet-stream")


async def get(uri: "S3Uri", max_bytes: int) -> bytes:
    from videoanalysis.storage import Storage

    async with Storage.open() as storage:
        return await storage.read(uri, max_bytes)


def parse_uri(text: str, option: str) -> "S3Uri":
    """Ends the process with a usage error that names `option` if `text` is not of the form s3://bucket/key."""
    with runner.require_extra("s3"):
        from videoanalysis.storage import S3Uri

    try:
        return S3Uri.parse(text, option)
    except InvalidInput as error:
        runner.usage_error(error.message)
