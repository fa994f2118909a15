"""Addresses of storage, ``s3://bucket/folder?region=eu-west-1``: which there are, and that no secret stands in one.

An address is written into files, logs and MLflow; who may enter is said by the environment or by the machine's role.
Light, for shell completion reads it too.
"""

import re
from difflib import get_close_matches
from urllib.parse import parse_qsl, urlsplit

from robustcore.errors import did_you_mean

_AWS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or ~/.aws/credentials, or the machine's role)"
_AZURE = "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET (or the machine's identity)"
_GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS (or the machine's service account)"
# Where a kind of storage looks for who we are; those without a word have no passwords in their addresses.
KINDS = {"s3": _AWS, "gs": _GOOGLE, "gcs": _GOOGLE, "abfs": _AZURE, "abfss": _AZURE, "hdfs": "", "file": ""}
S3_OPTIONS = ("region", "scheme", "endpoint_override", "allow_bucket_creation", "force_virtual_addressing")
NO_PASSWORD = "expected no password or key in an address, which is kept in files and logs"  # noqa: S105  # a sentence
_OTHERS = ("viewfs", "mock")  # known to pyarrow; nobody is led to them
_SECRETS = "client_secret|sas_token|sig|secret_key|access_key|session_token|password"


def check_address(address: str) -> None:
    """Raises ValueError, in one sentence that repeats no secret, where ``address`` is no folder and no such URI."""
    kind, colon, _ = address.partition("://")
    if not colon:
        return
    if kind not in (*KINDS, *_OTHERS):
        near = get_close_matches(kind, KINDS, 1, 0.5)
        hint = f"; did you mean '{near[0]}://'?" if near else ""
        raise ValueError(f"expected a folder or an address such as s3://, gs:// or abfs://, got '{kind}://...'{hint}")
    if without_secrets(address) != address:
        who = KINDS.get(kind) or "the environment"
        raise ValueError(f"{NO_PASSWORD}: put it in {who}")
    if kind == "s3":
        _check_s3(address)


def _check_s3(address: str) -> None:
    parts = urlsplit(address)
    if not parts.netloc:
        raise ValueError("expected s3://BUCKET/FOLDER, got no bucket")
    for option, _ in parse_qsl(parts.query, keep_blank_values=True):
        if option not in S3_OPTIONS:
            hint = did_you_mean(option, S3_OPTIONS)
            raise ValueError(f"unknown option '{option}' of an address, expected one of {', '.join(S3_OPTIONS)}{hint}")


def without_secrets(text: str) -> str:
    """``text`` without the passwords that addresses in it may carry, and their users."""
    # What stands before the @ of abfs://container@account is no user; a port is no password; keys may hold slashes.
    user, password = r"(?<!abfs)(?<!abfss)://(?!anonymous@)[^/@\s:]+@", r"://[^/@\s:]*:(?!\d+[/\s])[^@\s]*@"
    unnamed = re.sub(rf"{user}|{password}", "://", text)
    return re.sub(rf"([?&](?:{_SECRETS})=)[^&\s]+", r"\1...", unnamed)
