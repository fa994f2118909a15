"""The client of a storage by its address, made once a process; a server that is dead or hangs is noticed in seconds.

Who is patient is ``storage``: a client of its own accord would try again for many minutes.
"""

import os
from functools import lru_cache
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.fs

from robustcore.addresses import check_address, without_secrets
from robustcore.errors import InputError

_CONNECT, _SILENT = 5.0, 5.0  # seconds until a connection stands, and of silence on it
_ATTEMPTS = 3
_LIMITS = {"gs": "retry_limit_seconds=15", "gcs": "retry_limit_seconds=15"}


def resolved(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system of a path or URI, and the place in it. Raises InputError where the address is wrong."""
    if "://" not in uri:
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(uri)
    try:
        check_address(uri)
    except ValueError as error:
        raise InputError(str(error), "storage") from None
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        known = _from_environment("AWS_REGION", "AWS_DEFAULT_REGION")
        endpoint = _from_environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        return _s3(parts.netloc, parts.query, known, endpoint), f"{parts.netloc}{parts.path}".rstrip("/")
    return _other(uri)


@lru_cache(maxsize=32)
def _s3(bucket: str, query: str, region: str, endpoint: str) -> pyarrow.fs.S3FileSystem:
    """What the address says goes before what the environment says."""
    given = dict(parse_qsl(query))
    flags = {name: given[name] == "true" for name in given if name.startswith(("allow_", "force_"))}
    region, endpoint = given.get("region", region), given.get("endpoint_override", endpoint)
    scheme, colon, host = endpoint.rpartition("://")
    return pyarrow.fs.S3FileSystem(
        region=region or _region(bucket, endpoint),
        endpoint_override=host.rstrip("/") or None,
        scheme=scheme if colon else given.get("scheme"),
        connect_timeout=_CONNECT,
        request_timeout=_SILENT,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # a small file is one request, and no unfinished upload stays behind
        **flags,
    )


def _region(bucket: str, endpoint: str) -> str | None:
    """None leaves it to the client, who asks the user's files and then the machine it runs on."""
    if endpoint:
        return "us-east-1"  # servers of one's own have no regions, and the client insists on one
    try:
        region: str = pyarrow.fs.resolve_s3_region(bucket)
    except OSError:
        return None
    return region


def _from_environment(*names: str) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


@lru_cache(maxsize=512)
def _other(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    kind = uri.partition("://")[0]
    limit = _LIMITS.get(kind, "")
    known = limit and limit.partition("=")[0] in uri
    patient = uri if known or not limit else f"{uri}{'&' if '?' in uri else '?'}{limit}"
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(patient)
    except pa.ArrowNotImplementedError:
        raise InputError(f"pyarrow {pa.__version__} was built without {kind}://, expected another", "storage") from None
    except (pa.ArrowInvalid, OSError) as error:
        words = " ".join(without_secrets(str(error)).split())[:300]
        raise InputError(f"{without_secrets(uri)} cannot be used as storage ({words})", "storage") from None
    return filesystem, path.rstrip("/") or path
