"""Reads, writes and lists S3 objects; errors of a store are ServiceErrors."""

from videoanalysis.storage.s3_uri import S3Uri
from videoanalysis.storage.storage import RangesNotSupported, Storage, StoredObject
from videoanalysis.storage.upload import Upload

__all__ = ["RangesNotSupported", "S3Uri", "Storage", "StoredObject", "Upload"]
