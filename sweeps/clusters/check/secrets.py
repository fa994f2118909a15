"""Secrets that stand in a manifest in plain text; what is found is named, never shown."""

import re
from collections.abc import Iterator

from sweeps.clusters.check.settings import settings
from sweeps.clusters.manifest import Document, Fault, mapping_at, text_at

_NAME = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)", re.IGNORECASE)
_ELSEWHERE = re.compile(r"_(PATH|FILE|MODE|NAME|DIR|ID)$", re.IGNORECASE)  # names of names
_NO_SECRET = re.compile(r"^$|^[$~/.]|^__\w+__$|://")  # a variable, a path, a field to fill in, an address
_PATTERNS = {
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token": re.compile(r"\b(ghp_|gho_|github_pat_|hf_|glpat-|xox[bp]-)[A-Za-z0-9_-]{16,}"),
    "a password in an address": re.compile(r"://[^/\s:@]+:(?![$]|__)[^/\s@]+@"),
}
EXPECTED = "expected it from the environment"


def secret_faults(document: Document) -> Iterator[Fault]:
    """One for each place."""
    seen = set()
    for keys, what in _found(document):
        if keys not in seen:
            seen.add(keys)
            yield keys, f"{what} stands here in plain text; {_instead(document)}"


def _found(document: Document) -> Iterator[Fault]:
    for setting in settings(document):
        is_secret = _NAME.search(setting.name) and not _ELSEWHERE.search(setting.name)
        if is_secret and not _NO_SECRET.search(setting.value):
            yield setting.keys, f"the secret {setting.name}"
    for keys, text in document.texts():
        yield from ((keys, what) for what, pattern in _PATTERNS.items() if pattern.search(text))
    if document.kind == "Secret":
        for section in ("data", "stringData"):
            yield from (((section, name), f"the secret {name}") for name in mapping_at(document.value, section))
    for name in ("aws_credentials", "gcp_credentials"):
        if mapping_at(document.value, "provider", name):
            yield ("provider", name), "credentials"


def _instead(document: Document) -> str:
    if text_at(document.value, "apiVersion"):
        return f"{EXPECTED}: `kubectl create secret`, and valueFrom.secretKeyRef"
    return f"{EXPECTED}: a role of the machine, or a file named in file_mounts"
