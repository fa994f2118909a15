"""What the verbs of `sweep` have in common: their options, where a study's results are, errors as sentences."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from sweeps.remote.address import is_jobs_address

if TYPE_CHECKING:
    from robustcore.storage import Folder
    from sweeps.study import Study

FAILED, WRONG_REQUEST, INTERRUPTED = 1, 2, 130


class Verbs(click.Group):
    """Ctrl-C and SIGTERM end a verb with a sentence, whatever it was doing; a sweep that runs has ways of its own."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, on the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return super().invoke(ctx)
        heard = []

        def hear(number: int, _: FrameType | None) -> None:
            heard.append(number)
            raise KeyboardInterrupt

        before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return super().invoke(ctx)
        except (SystemExit, click.exceptions.Exit):
            raise  # the verb has heard it too, and said what comes of it
        except BaseException as error:
            # An import that is cut short raises whatever it likes.
            if not heard and not isinstance(error, KeyboardInterrupt):
                raise
            click.echo("interrupted; what was finished is kept", err=True)
            ctx.exit(INTERRUPTED)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class StudyArgument(click.ParamType[str]):
    """A path to a study, or the bare name of a shipped one."""

    name = "study"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Shipped names, then files."""
        from sweeps.source import shipped_studies

        names = [CompletionItem(name) for name in shipped_studies() if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")]


class RayAddress(click.ParamType[str]):
    """Ray itself answers a malformed address with a traceback."""

    name = "address"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address, if it has the form of one."""
        if not re.fullmatch(r"local|auto|[^\s/]+:\d+", value) and not is_jobs_address(value):
            self.fail(
                f"expected local, auto, HOST:PORT, http://HOST:8265 or ray://HOST:10001, got {value!r}", param, ctx
            )
        return value


class JobsAddress(click.ParamType[str]):
    """Where a cluster takes jobs."""

    name = "address"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address, if it has the form of one."""
        if not is_jobs_address(value):
            self.fail(f"expected http://HOST:8265 or ray://HOST:10001, got {value!r}", param, ctx)
        return value


study_argument = click.argument("study", type=StudyArgument())
settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change one value of the study: loss.alpha=0.3, search.trials=8. Setting a knob pins it.",
)
storage_option = click.option(
    "--storage", metavar="URI", help="Where results go (default: the study's own, else ./runs)."
)
address_option = click.option(
    "--address",
    type=RayAddress(),
    default="local",
    show_default=True,
    help="Ray to run on: local, auto or HOST:PORT; or a cluster to send it to: http://HOST:8265, ray://HOST:10001.",
)
_shared = click.option(
    "--shared",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="All machines of the cluster see it under this path: nothing in it is sent, and results may go there.",
)
_detach = click.option("--detach", is_flag=True, help="Send it to the cluster, and do not wait for it.")
_force = click.option("--force", is_flag=True, help="Go on though the check of the cluster finds something.")
trials_option = click.option("--trials", type=click.IntRange(min=1), help="How many trials in all.")

_certify = click.option("--certify", is_flag=True, help="In the end, attack the front again at full strength.")
_attack = click.option(
    "--attack",
    metavar="NAME|YAML",
    help="What certifies: autoattack (the default), apgd, or a mapping such as '{kind: apgd, steps: 500}'.",
)
_samples = click.option(
    "--samples",
    type=click.IntRange(min=1),
    help="Certify on so many images of each data set (default: all that the search measured).",
)


class Cluster(NamedTuple):
    """Where a sweep runs, and how it gets there."""

    address: str
    shared: tuple[Path, ...]
    detach: bool
    force: bool = False

    @property
    def takes_jobs(self) -> bool:
        """Whether the sweep is sent there."""
        return is_jobs_address(self.address)


def sending_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Hands the verb a ``cluster``."""

    @wraps(verb)
    def asked(*, address: str, shared: tuple[Path, ...], detach: bool, force: bool = False, **given: Any) -> None:
        if (shared or detach) and not is_jobs_address(address):
            word = "--detach" if detach else "--shared"
            raise click.UsageError(f"{word} is for what is sent to a cluster; expected --address http://HOST:8265")
        folders = tuple(Path(os.path.abspath(folder.expanduser())) for folder in shared)
        verb(cluster=Cluster(address, folders, detach, force), **given)

    return address_option(_shared(_detach(asked)))


def cluster_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Hands the verb a ``cluster``, which is looked at before the first trial."""
    return _force(sending_options(verb))


class Strengthening(NamedTuple):
    """How hard to attack again, in the user's words; None is the default."""

    attack: str | None
    samples: int | None


def strength_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Hands the verb a ``wanted``."""

    @wraps(verb)
    def asked(*, attack: str | None, samples: int | None, **given: Any) -> None:
        verb(wanted=Strengthening(attack, samples), **given)

    return _attack(_samples(asked))


def certify_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Hands the verb a ``wanted``; None without --certify."""

    @wraps(verb)
    def asked(*, certify: bool, wanted: Strengthening, **given: Any) -> None:
        if not certify and any(word is not None for word in wanted):
            raise click.UsageError("--attack and --samples say how to certify; expected --certify too")
        verb(wanted=wanted if certify else None, **given)

    return _certify(strength_options(asked))


def format_option(*kinds: str) -> Callable[[Any], Any]:
    """``--format``, one of ``kinds``."""
    return click.option("--format", "kind", type=click.Choice(kinds), default="text", show_default=True)


def checked_study(
    study: str, settings: tuple[str, ...], storage: str | None, address: str = "local"
) -> tuple["Study", list[str]]:
    """The study if nothing is wrong with it; else every problem on stderr, and exit code 2."""
    from sweeps.check import check_study
    from trainables.resources import this_machine

    if storage is not None:
        settings = (*settings, f"storage={storage}")
    checked, problems, notes = check_study(study, settings, [this_machine()] if address == "local" else None)
    if problems or checked is None:
        for problem in problems:
            click.echo(str(problem), err=True)
        sys.exit(WRONG_REQUEST)
    return checked, notes


def folder_of(study: str, storage: str | None) -> "Folder":
    """Where the study's results are: under the name it has in its file, or that it was launched under."""
    from robustcore.storage import Folder
    from sweeps.source import named

    name, own_storage = named(study)
    return Folder(storage or own_storage).at(name)


@contextmanager
def sentences() -> Iterator[None]:
    """What the user can put right is a sentence, not a traceback."""
    from robustcore.errors import InputError, NonFiniteLoss
    from robustcore.storage import StorageLost
    from sweeps.source import StudyError
    from sweeps.stored import RequestError

    try:
        yield
    except (RequestError, StudyError, InputError) as error:
        click.echo(str(error), err=True)
        sys.exit(WRONG_REQUEST)
    except (NonFiniteLoss, StorageLost) as error:
        click.echo(str(error), err=True)
        sys.exit(FAILED)


def print_table(table: Any) -> None:
    """A table of rich, as wide as the terminal."""
    from rich.console import Console

    # A pipe has no width: a table that was cut there would lose columns.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
