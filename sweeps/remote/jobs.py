"""A cluster's jobs server: what Ray's client does, within time limits, and with every failure as one sentence."""

import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from robustcore.addresses import without_secrets
from sweeps.remote.address import auth_headers, jobs_url
from sweeps.stored import RequestError

T = TypeVar("T")
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_AGAIN = "~"  # no study's name has one: the lives of a sweep are alpha, alpha~2, alpha~3, ...
_LIMIT = (10.0, 120.0)  # seconds: to connect, to answer
_OVERRIDES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")  # Ray would follow them rather than --address


class ServerAway(RequestError):
    """The jobs server does not answer now; it may again."""


@dataclass(frozen=True)
class Job:
    """One life of a sweep on the cluster. ``exit_code`` is that of its driver; None if it has none (yet)."""

    id: str
    status: str
    message: str
    exit_code: int | None
    metadata: dict[str, str]

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.status in ENDED


class Jobs:
    """The jobs server at ``address``. Every method raises RequestError."""

    def __init__(self, address: str) -> None:
        self.address, self.url = address, jobs_url(address)
        for name in _OVERRIDES:
            os.environ.pop(name, None)
        headers = auth_headers()
        self._has_token = bool(headers)
        with self._sentences():
            self._client = _client(self.url, headers)
            self.ray_version: str = self._client._server_ray_version

    def find(self, sweep: str) -> Job | None:
        """The newest life of a sweep; None where it has had none."""
        with self._sentences():
            found = [_job(each) for each in self._client.list_jobs() if (each.metadata or {}).get("sweep") == sweep]
        return max(found, key=lambda job: _life(job.id), default=None)

    def info(self, job: Job) -> Job:
        """As it is now."""
        with self._sentences():
            return _job(self._client.get_job_info(job.id))

    def submit(self, sweep: str, before: Job | None, **request: Any) -> Job | None:
        """The next life of a sweep; None where another one was quicker to start it."""
        life = 1 if before is None else _life(before.id) + 1
        name = sweep if life == 1 else f"{sweep}{_AGAIN}{life}"
        with self._sentences():
            try:
                self._client.submit_job(submission_id=name, **request)
            except RuntimeError as error:
                if "already exists" not in str(error):
                    raise
                return None
            return _job(self._client.get_job_info(name))

    def stop(self, job: Job) -> None:
        """Ask its driver to end; see ``inside`` for how long it may take."""
        with self._sentences():
            self._client.stop_job(job.id)

    def log(self, job: Job) -> str:
        """Everything that it has printed."""
        with self._sentences():
            text: str = self._client.get_job_logs(job.id)
        return text

    def tail(self, job: Job) -> AsyncIterator[str]:
        """What it has printed and goes on to print, in pieces; ends when it ends, or when the connection does."""
        pieces: AsyncIterator[str] = self._client.tail_job_logs(job.id)
        return pieces

    def patiently(self, ask: Callable[[], T], patience: float) -> T:
        """What ``ask`` returns, tried for so many seconds while the server is away."""
        deadline = time.monotonic() + patience
        while True:
            try:
                return ask()
            except ServerAway:
                if time.monotonic() > deadline:
                    raise
                time.sleep(2)

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError:
            wrong = "does not accept the token" if self._has_token else "wants a token, and there is none"
            places = "RAY_AUTH_TOKEN, the file of RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token"
            raise RequestError(f"the cluster at {self.url} {wrong}; expected it in {places}") from None
        except OSError as error:  # those of its client, too
            where = f"{self.url}, the dashboard's usual place" if self.address.startswith("ray:") else self.url
            raise ServerAway(f"no jobs server of Ray answers at {where} ({_short(error)})") from None
        except (RuntimeError, ValueError, KeyError) as error:  # an error of the server, or no such server at all
            raise RequestError(f"the jobs server at {self.url} cannot do that ({_short(error)})") from None


def _client(url: str, headers: dict[str, str]) -> Any:
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):  # type: ignore[misc]  # Ray's types are Any here
        """Ray's own waits for ever."""

        def __init__(self) -> None:
            super().__init__(url, headers=headers)
            self._ssl_context: Any = True  # its own None is deprecated by aiohttp

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            return super()._do_request(method, endpoint, **{"timeout": _LIMIT, **options})

    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return Client()


def _job(details: Any) -> Job:
    status = getattr(details.status, "value", details.status)
    return Job(
        details.submission_id, status, details.message or "", details.driver_exit_code, dict(details.metadata or {})
    )


def _life(job: str) -> int:
    _, _, number = job.partition(_AGAIN)
    return int(number) if number.isdecimal() else 1


def _short(error: Exception) -> str:
    return without_secrets(" ".join(str(error).split()))[:300]
