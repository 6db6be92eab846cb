"""URIs of S3 objects in, their bytes out, and the other way round; what a store refuses is an error of ours."""

from videoanalysis.storage.s3_uri import S3Uri
from videoanalysis.storage.storage import RangesNotSupported, Storage, StoredObject, Upload

__all__ = ["RangesNotSupported", "S3Uri", "Storage", "StoredObject", "Upload"]
