"""The commands that a manifest runs, as far as their names and options are known: our own, Ray's and MLflow's."""

import re
from collections.abc import Iterator, Mapping, Sequence

import click

from sweeps.clusters.check.shape import shapes
from sweeps.clusters.manifest import LAUNCHER, Document, Fault, list_at, mapping_at, text_at
from sweeps.clusters.pools import cluster_keys, pod_templates, templates
from sweeps.source import did_you_mean
from sweeps.source.marked import KeyPath

_CALL = re.compile(r"(?<![\w./-])(ray|sweep|mlflow)\s+([a-z][a-z-]*)([^;&|\n]*)")
_OPTION = re.compile(r"(?<!\S)--([\w-]+)")
_COMMENT, _GOES_ON = re.compile(r"(?m)^\s*#.*$"), re.compile(r"\\\n")
_STORAGE = re.compile(r"\bsweep\s+(?:launch|resume)\b.*?--storage[= ]['\"]?([^\s'\"]+)")
_LEADING = ("exec", "nohup", "sudo", "env", "time", "if", "then", "else", "while", "until", "do")
Words = Mapping[str, Sequence[str] | None]  # verb -> its options; None where nobody looks at them here


def command_faults(document: Document, documents: Sequence[Document]) -> Iterator[Fault]:
    """Of one of the documents: misspelt commands, results on a disk that goes."""
    known: dict[str, Words] = {"sweep": _own(), **shapes("commands")}
    shared = [path for each in documents for path in _shared_paths(each)]
    for keys, text in _commands(document):
        for call in _CALL.finditer(text):
            if _is_run(text[: call.start()]):
                program, verb, rest = call.groups()
                yield from ((keys, sentence) for sentence in _misspelt(program, verb, rest, known[program]))
        yield from ((keys, sentence) for sentence in _local_storage(text, shared))


def _is_run(before: str) -> bool:
    """Whether what follows is a command, and no word of a sentence."""
    line = before.rpartition("\n")[2].rstrip()
    last = line.rpartition(" ")[2]
    return not line or line[-1] in ";&|({'\"!" or last.lstrip("({") in _LEADING or last.startswith("-") or "=" in last


def _misspelt(program: str, verb: str, rest: str, verbs: Words) -> Iterator[str]:
    if verb not in verbs:
        if near := did_you_mean(verb, list(verbs)):
            yield f"`{program}` has no command {verb}{near}"
        return
    options = verbs[verb]
    if options is not None:
        yield from unknown_options(f"{program} {verb}", rest, [*options, "help"])


def unknown_options(command: str, given: str, known: Sequence[str]) -> Iterator[str]:
    """A sentence for each option that is ``given`` behind the command, and that it does not know."""
    for option in options_in(given):
        if option not in known:
            yield f"`{command}` has no option --{option}{did_you_mean(option, list(known))}"


def options_in(given: str) -> list[str]:
    """The names of the options behind a command."""
    return _OPTION.findall(given)


def _own() -> Words:
    from sweeps.cli import main

    return {
        name: None
        if isinstance(command, click.Group)
        else [word.lstrip("-") for each in command.params for word in (*each.opts, *each.secondary_opts)]
        for name, command in main.commands.items()
    }


def _commands(document: Document) -> Iterator[tuple[KeyPath, str]]:
    """What is run, without comments; what stands in lists as one line."""
    if document.kind == LAUNCHER:
        for section in (key for key in document.value if key.endswith("_commands")):
            for position, command in enumerate(list_at(document.value, section)):
                yield (section, position), _plain(command)
    yield ("spec", "entrypoint"), _plain(text_at(document.value, "spec", "entrypoint"))
    for keys, template in pod_templates(document):
        for position, container in enumerate(list_at(template, "spec", "containers")):
            words = [*list_at(container, "command"), *list_at(container, "args")]
            yield (*keys, "spec", "containers", position, "command"), _plain(" ".join(map(str, words)))
    if document.kind == "ConfigMap":
        for name, script in mapping_at(document.value, "data").items():
            if name.endswith(".sh"):
                yield ("data", name), _plain(script)


def _plain(text: object) -> str:
    return _COMMENT.sub("", _GOES_ON.sub(" ", text)) if isinstance(text, str) else ""


def _local_storage(text: str, shared: Sequence[str]) -> Iterator[str]:
    """Results that are written where no other machine sees them; a variable is what the same script says it is."""
    for match in _STORAGE.finditer(text):
        storage = match[1]
        if storage.startswith("$"):
            given = re.search(rf"(?m)^\s*(?:export )?{re.escape(storage.strip('${}'))}=['\"]?([^\s'\"]+)", text)
            storage = given[1] if given else storage
        if "://" not in storage and not storage.startswith(("$", "__", *shared)):
            yield (
                "results would stay on the head's own disk and go with it; expected --storage s3://, gs:// or abfs://, "
                f"or a folder that all machines share, got '{storage}'"
            )


def _shared_paths(document: Document) -> Iterator[str]:
    """Where a volume is mounted that outlives the pod."""
    for keys in cluster_keys(document):
        for _, pod in templates(document, keys):
            lasting = {
                text_at(volume, "name")
                for volume in list_at(pod, "volumes")
                if {"persistentVolumeClaim", "nfs", "csi"} & mapping_at(volume).keys()
            }
            for mount in list_at(pod, "containers", 0, "volumeMounts"):
                if text_at(mount, "name") in lasting and text_at(mount, "mountPath"):
                    yield text_at(mount, "mountPath")
