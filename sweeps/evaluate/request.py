"""What `sweep evaluate` was asked for, as components: attacks, data sets with their prompts, captioned sets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from robustcore.attacks import APGD, Attack
from robustcore.data import Captions, Data, ParquetCaptions
from robustcore.errors import DataError
from robustcore.evaluation import Evaluation
from robustcore.evaluation.retrieval import retrieval_attacks
from robustcore.suites import set_ids, set_info, suite_sets
from robustcore.suites.resolve import resolve
from robustcore.suites.stored import stored_at
from robustcore.types import parse_number
from sweeps.source.marked import UnreadableError, read_yaml
from sweeps.stored import RequestError
from sweeps.study.rules import adapter
from sweeps.study.sentences import faults

_STEPS = {"pgd": 20, "apgd": 100}
_ANCHORED = 100  # steps of the attack that drift is measured under, as in FARE's table
_DIGITS = "digits"
Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Request:
    """The options of the command, as they were written."""

    suite: str | None = None
    data: tuple[str, ...] = ()
    root: str | None = None
    attacks: tuple[str, ...] = ()
    eps: str = "4/255"
    norm: Norm = "linf"
    samples: int | None = None
    resolution: Literal["model", "native"] = "model"
    retrieval: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    drifts: bool = False
    batch_size: int = 128
    own: Evaluation | None = None  # of a trial: its sets stand in where none was asked for

    @property
    def names_sets(self) -> bool:
        """Whether it says what to measure on."""
        return bool(self.suite or self.data or self.retrieval)

    def ball(self) -> dict[str, Any]:
        """As a recipe writes it. Raises RequestError where eps is no number."""
        try:
            return {"kind": self.norm, "eps": parse_number(self.eps)}
        except ValueError as error:
            raise RequestError(f"--eps {self.eps}: {error}") from None


def evaluations(request: Request) -> Iterator[tuple[str, Evaluation]]:
    """One for each data set and each captioned set, by its name. Raises RequestError, or DataError of a set."""
    for prompt in request.prompts:
        if "{}" not in prompt:
            raise RequestError(f"--prompts: expected a prompt with {{}} for the class name, got {prompt!r}")
    attacks = _attacks(request)
    drift = (
        APGD(attack_from(f"{{kind: apgd, steps: {_ANCHORED}}}", request)[1].ball, _ANCHORED) if request.drifts else None
    )
    common: dict[str, Any] = {"batch_size": request.batch_size, "resolution": request.resolution}
    seen: set[str] = set()
    for name, source, prompts in _sets(request):
        _only_once(name, seen)
        chosen = request.prompts or prompts
        yield name, Evaluation(datasets={name: source}, attacks=attacks, prompts=chosen, drift=drift, **common)
    for name, captions in _captioned(request):
        _only_once(name, seen)
        yield name, Evaluation(retrieval={name: captions}, attacks=_of_retrieval(attacks), **common)


def _only_once(name: str, seen: set[str]) -> None:
    if name in seen:
        raise RequestError(f"two data sets have the name '{name}', expected each once")
    seen.add(name)


def attack_from(text: str, request: Request) -> tuple[str, Any]:
    """Its name in tables, and the component; ``text`` is a kind or a mapping in YAML. Raises RequestError."""
    try:
        marked = read_yaml(text)
    except UnreadableError as error:
        raise RequestError(f"--attack {text}: {error}") from None
    spec = {"kind": marked.value} if isinstance(marked.value, str) else marked.value
    if not isinstance(spec, dict) or marked.faults:
        fault = marked.faults[0][2] if marked.faults else "expected the name of an attack, or a mapping with its 'kind'"
        raise RequestError(f"--attack {text}: {fault}")
    steps = _STEPS.get(str(spec.get("kind")))
    plain = {"ball": request.ball(), **({"steps": steps} if steps else {}), **spec}
    place = ("recipe", "attack")
    try:
        attack = adapter(Attack).validate_python(plain)
        Evaluation(attacks={"it": attack}, retrieval={"any": ParquetCaptions("")})  # it is fit to measure with
    except ValidationError as error:
        keys, message = faults(error, {"recipe": {"attack": plain}}, place)[0]
        key = ".".join(map(str, keys[len(place) :]))
        raise RequestError(f"--attack {text}: {key + ': ' if key else ''}{message}") from None
    return label(attack), attack


def label(attack: Attack) -> str:
    """``PGD-20``, ``APGD-100``, ``AutoAttack``: a number is always said together with what it was found by."""
    plain: Any = attack
    name = {"autoattack": "AutoAttack", "clean": "Clean"}.get(plain.kind, plain.kind.upper())
    if plain.kind == "autoattack":
        return name if plain.version == "standard" else f"{name} ({plain.version})"
    name += f"-{plain.steps}" if hasattr(plain, "steps") else ""
    return name if plain.climb in (None, "cross_entropy") else f"{name} ({plain.climb})"


def _attacks(request: Request) -> dict[str, Any]:
    """By what tables call them; two that would be called alike are told apart by their radius."""
    found: dict[str, Any] = {}
    for text in request.attacks:
        name, attack = attack_from(text, request)
        if name in found and attack != found[name]:
            name = f"{name} {attack.ball.kind} {attack.ball.eps:.4g}"
        found[name] = attack
    return found


def _of_retrieval(attacks: Mapping[str, Any]) -> dict[str, Any]:
    """AutoAttack has no form for several right answers: APGD, its first stage, stands in under its own name."""
    usable: dict[str, Any] = dict(retrieval_attacks(attacks))
    for attack in attacks.values():
        if attack.kind == "autoattack":
            standing_in = APGD(attack.ball, attack.steps)
            usable.setdefault(label(standing_in), standing_in)
    return usable


def _sets(request: Request) -> Iterator[tuple[str, Data, tuple[str, ...]]]:
    default: tuple[str, ...] = () if request.names_sets or request.own is not None else (_DIGITS,)
    for name, source, prompts in request.own.sets() if request.own is not None else ():
        yield name, _limited(source, request), prompts
    for set_id in suite_sets(request.suite) if request.suite else ():
        yield set_id, *_known(set_id, request)
    for text in request.data or default:
        if text in set_ids() and not Path(text).exists():
            yield text, *_known(text, request)
        elif text.lstrip().startswith("{"):
            source = _written(text)
            yield source.kind, _limited(source, request), _default_prompts()
        else:
            yield _name(text), stored_at(text, request.samples), _default_prompts()


def _limited(source: Any, request: Request) -> Any:
    return replace(source, limit=request.samples or source.limit)


def _known(set_id: str, request: Request) -> tuple[Data, tuple[str, ...]]:
    if request.root is None and set_id != _DIGITS:
        raise RequestError(f"{set_id}: expected --root, the folder that data sets lie in")
    return resolve(set_id, request.root or ".", request.samples), set_info(set_id).templates


def _written(text: str) -> Any:
    try:
        plain = read_yaml(text).value
        return adapter(Data).validate_python(plain)
    except UnreadableError as error:
        raise RequestError(f"--data {text}: {error}") from None
    except ValidationError as error:
        place = ("recipe", "data", "train")
        keys, message = faults(error, {"recipe": {"data": {"train": plain}}}, place)[0]
        key = ".".join(map(str, keys[len(place) :]))
        raise RequestError(f"--data {text}: {key + ': ' if key else ''}{message}") from None


def _default_prompts() -> tuple[str, ...]:
    return ("a photo of a {}.",)


def _captioned(request: Request) -> Iterator[tuple[str, Captions]]:
    for name, source in request.own.retrieval.items() if request.own is not None else ():
        yield name, _limited(source, request)
    for path in request.retrieval:
        yield _name(path), _to_evaluate(ParquetCaptions(path, limit=request.samples))


def _to_evaluate(source: ParquetCaptions) -> ParquetCaptions:
    """Its test split where it has one."""
    try:
        replace(source, split="test").open()
    except DataError as error:
        if error.key != "split":
            raise
        return source
    return replace(source, split="test")


def _name(path: str) -> str:
    return Path(path).name.removesuffix(".parquet").removesuffix(".tar") or path


def missing(request: Request) -> Sequence[str]:
    """A sentence for each set of the suite that is not there; the others need no look."""
    sentences = []
    for set_id in suite_sets(request.suite) if request.suite else ():
        try:
            _known(set_id, request)
        except DataError as error:
            sentences.append(str(error))
    return sentences
