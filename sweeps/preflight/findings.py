"""What the machines' answers mean: pure functions, one a question; a failure is a sentence that says what to do."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from robustcore.addresses import without_secrets
from robustcore.storage import Folder
from sweeps.preflight.nodes import Node
from sweeps.preflight.probe import Look

MAX_SKEW = 30.0  # seconds; leases of machines that share a storage must agree within a minute
_NAMED = 3  # machines of a sentence
_CREDENTIALS = "expected its credentials in the environment of every machine"


@dataclass(frozen=True)
class Finding:
    """A row of the table; ``sentence`` is empty where all is well."""

    question: str
    answer: str
    sentence: str = ""


def judged(nodes: Sequence[Node], folder: Folder) -> list[Finding]:
    """What all machines were asked."""
    looked = [(node, node.look) for node in nodes if node.look is not None]
    return [
        _machines(nodes),
        _storage(looked, folder),
        _data(looked),
        _versions(looked),
        _clocks([node for node, _ in looked]),
    ]


def _machines(nodes: Sequence[Node]) -> Finding:
    silent = {str(node): node.error for node in nodes if node.error}
    workers = sum(not node.is_head for node in nodes)
    answer = f"the head and {workers} {'worker' if workers == 1 else 'workers'}"
    if not workers:
        answer = "the head; no worker is up, so none was looked at"
    sentence = ""
    if silent:
        sentence = f"machines: {_listed(silent)}; look at `ray status` and at its logs, or remove it from the cluster"
    return Finding("machines", answer, sentence)


def _storage(looked: Sequence[tuple[Node, Look]], folder: Folder) -> Finding:
    troubles = {}
    for node, look in looked:
        if look.storage:
            troubles[str(node)] = look.storage
        elif not node.is_heard:
            troubles[str(node)] = "the head does not see what it wrote"
    place = without_secrets(folder.above.uri)
    how = "expected a folder that all machines see under this path" if folder.local else _CREDENTIALS
    sentence = f"storage: {place} is not the same everywhere: {_listed(troubles)}; {how}" if troubles else ""
    return Finding("storage", f"{place}, written and read by {_count(looked)}", sentence)


def _data(looked: Sequence[tuple[Node, Look]]) -> Finding:
    missing: dict[str, dict[str, str]] = defaultdict(dict)
    for node, look in looked:
        for place, why in look.missing.items():
            missing[place][str(node)] = why
    sentences = [
        f"data: {without_secrets(place)} cannot be read: {_listed(who)}; {_remedy(place)}"
        for place, who in missing.items()
    ]
    return Finding("data", f"read by {_count(looked)}", "\n".join(sentences))


def _remedy(place: str) -> str:
    if "/robust-sweeps/shipped/" in place:
        return "it was sent with the launch: resume with the study's file, from the machine that has the data"
    return "expected it there under the same path" if "://" not in place else _CREDENTIALS


def _versions(looked: Sequence[tuple[Node, Look]]) -> Finding:
    head, own = looked[0] if looked else (None, None)
    if own is None:
        return Finding("versions", "unknown", "")
    differing = {}
    for node, look in looked:
        others = [f"{name} {it}" for name, it in look.versions.items() if it != own.versions[name]]
        if others:
            differing[str(node)] = ", ".join(others)
    answer = ", ".join(f"{name} {it}" for name, it in own.versions.items())
    sentence = f"versions: {head} has {answer}, but {_listed(differing, 'has')}; expected one image for all machines"
    return Finding("versions", answer, sentence if differing else "")


def _clocks(nodes: Sequence[Node]) -> Finding:
    wrong = {str(node): _skew(node.ahead) for node in nodes if abs(node.ahead) > MAX_SKEW}
    most = max((abs(node.ahead) for node in nodes), default=0.0)
    sentence = f"clocks: {_listed(wrong)}; expected at most {MAX_SKEW:g} s: let NTP or chrony set it" if wrong else ""
    return Finding("clocks", f"within {max(most, 0.1):.1f} s", sentence)


def _skew(ahead: float) -> str:
    return f"its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the head's"


def _count(looked: Sequence[object]) -> str:
    return f"{len(looked)} {'machine' if len(looked) == 1 else 'machines'}"


def _listed(troubles: dict[str, str], verb: str = "") -> str:
    """Machines with the same trouble together, a few of them by name."""
    alike: dict[str, list[str]] = defaultdict(list)
    for who, what in troubles.items():
        alike[what].append(who)
    says = f" {verb}" if verb else ":"
    return "; ".join(f"{_names(who)}{says} {what}" for what, who in alike.items())


def _names(who: list[str]) -> str:
    more = f" and {len(who) - _NAMED} more" if len(who) > _NAMED else ""
    return ", ".join(who[:_NAMED]) + more
