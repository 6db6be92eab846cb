"""Settings of a service that reads or writes S3."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from pydantic import Field

from videoanalysis.settings import ServiceSettings
from videoanalysis.storage.storage import AddressingStyle, Storage


class S3Settings(ServiceSettings):
    s3_endpoint_url: str | None = Field(
        None, pattern="^https?://", description="Endpoint of an S3-compatible store. Never taken from a caller."
    )
    s3_region: str | None = Field(None, description="Region of the buckets; unset: as the AWS settings say.")
    s3_addressing_style: AddressingStyle = Field(
        "auto",
        description="Where a URL has the bucket: virtual, in the host name; path, in the path; auto, in the path with "
        "s3_endpoint_url and otherwise in the host name.",
    )
    s3_unsigned: bool = Field(False, description="Send requests without credentials, for public buckets.")
    s3_request_payer: bool = Field(False, description="Pay for requests to buckets whose requesters pay.")
    s3_ca_bundle: Path | None = Field(
        None,
        description="CAs of the store's certificate, a PEM file; unset: the usual ones, or those of AWS_CA_BUNDLE.",
    )

    def open_storage(self) -> AbstractAsyncContextManager[Storage]:
        return Storage.open(
            self.s3_endpoint_url,
            self.s3_region,
            addressing_style=self.s3_addressing_style,
            unsigned=self.s3_unsigned,
            request_payer=self.s3_request_payer,
            ca_bundle=self.s3_ca_bundle,
        )
