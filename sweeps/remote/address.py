"""Addresses of jobs servers, and the token that opens them, from Ray's standard places; it is never printed."""

import os
import re
from pathlib import Path

DASHBOARD = 8265  # Ray's own default
_SERVER = re.compile(r"https?://[^\s/@?#]+(/[^\s?#]*)?")
_CLIENT = re.compile(r"ray://([^\s/@?#:]+|\[[0-9a-fA-F:]+\])(:\d+)?/?")


def is_jobs_address(address: str) -> bool:
    """Whether sweeps are sent there as jobs: ``http(s)://HOST[:PORT]``, or ``ray://HOST[:PORT]`` as Ray has it."""
    return bool(_SERVER.fullmatch(address) or _CLIENT.fullmatch(address))


def jobs_url(address: str) -> str:
    """Where the jobs server listens; beside a ``ray://`` one, at the dashboard's usual port."""
    client = _CLIENT.fullmatch(address)
    return f"http://{client[1]}:{DASHBOARD}" if client else address.rstrip("/")


def auth_headers() -> dict[str, str]:
    """What a jobs server wants to see; sent also where RAY_AUTH_MODE is unset. Raises RequestError."""
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    token = _token() if mode == "token" else ""  # other modes are Ray's own business
    return {"Authorization": f"Bearer {token}"} if token else {}


def _token() -> str:
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    try:
        return (Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token").read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        if not named:
            return ""
        from sweeps.stored import RequestError

        raise RequestError(f"RAY_AUTH_TOKEN_PATH: cannot read {named} ({error})") from None
