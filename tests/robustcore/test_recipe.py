"""Recipes: what is refused and how it says so, numbers as people write them, and one fingerprint an experiment."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from robustcore.data import Folder, Parquet
from robustcore.models import Clip
from robustcore.recipe import recipe_from
from tests.support import small_recipe

DATA = Path("digits.parquet")


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("attack", {"kind": "fgsm", "ball": {"kind": "linf", "eps": 0.1}}, "expected one with a random start"),
        ("attack__random_start", False, "the loss 'fare' has no gradient at the clean image, so the attack 'pgd'"),
        ("attack", {"kind": "clean"}, "the attack 'clean' would never move"),
        ("optim__warmup", 5, r"optim.warmup \(5\) exceeds optim.steps \(4\)"),
        ("attack__ball__eps", 4, r"cannot exceed 1, got 4; did you mean 4/255\?"),
        ("attack__ball__eps", -0.1, "greater than or equal to 0"),
        ("loss__alpha", True, "expected a number, got true"),
        ("optim__lr", False, "expected a number, got false"),
        ("optim__lr", "fast", "expected a number such as 0.1, 1e-5 or 4/255, got 'fast'"),
        ("optim__lr", "1/0", "expected a number such as"),
        ("optim__lr", "nan", "expected a finite number, got nan"),
        ("optim__lr", float("inf"), "expected a finite number, got inf"),
        ("optim__steps", 1.5, "expected a whole number, got 1.5"),
        ("optim__steps", True, "expected a number, got true"),
        ("attack__steps", 0, "greater than or equal to 1"),
        ("attack__random_start", 1, "expected true or false, got 1"),
        ("attack__random_start", "yes", "expected true or false, got 'yes'"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**63, "less than"),
        ("precision", "fp16", "'fp32' or 'bf16'"),
        ("loss__kind", "fair", "'fare',"),
        ("attack__stepz", 3, "stepz"),
        ("evaluation__datasets", {}, "at least one data set"),
        ("evaluation__prompts", [], "at least 1"),
        ("data__batch_size", 0, "greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_refused_with_a_sentence(path: str, value: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        small_recipe(DATA, **{path: value})


COMPONENTS = ["model", "data", "data__train", "loss", "attack", "attack__ball", "optim", "evaluation", ""]


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_refuses_a_key_it_does_not_know(component: str) -> None:
    with pytest.raises(ValidationError, match="unexpected_keyword_argument"):
        small_recipe(DATA, **{f"{component}__mistake" if component else "mistake": 1})


@pytest.mark.parametrize(
    ("written", "meant"), [("4/255", 4 / 255), ("1e-5", 1e-5), (1, 1.0), ("0.5", 0.5), (" 8 / 255 ", 8 / 255)]
)
def test_numbers_may_be_written_as_people_write_them(written: Any, meant: float) -> None:
    assert small_recipe(DATA, optim__lr=written).optim.lr == meant


@pytest.mark.parametrize("written", ["1e4", 1e4, 10000, "10000"])
def test_counts_may_be_written_as_people_write_them(written: Any) -> None:
    steps = small_recipe(DATA, optim__steps=written).optim.steps
    assert steps == 10000
    assert isinstance(steps, int)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"loss": {"kind": "tecoa", "prompts": ["a {}", "the {}"], "clean_term": "embedding"}},
    {"attack__ball": {"kind": "l2", "eps": 2}},
    {"loss": {"kind": "tecoa"}, "attack": {"kind": "fgsm", "ball": {"kind": "linf", "eps": "1/255"}}},
    {"data__train": {"kind": "folder", "path": "images", "limit": 3, "classes": ["a", "b"]}},
    {"data__train": {"kind": "digits"}, "precision": "bf16", "seed": 3},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_recipe_survives_the_way_through_plain_values(changes: dict[str, Any]) -> None:
    recipe = small_recipe(DATA, **changes)
    again = recipe_from(recipe.as_json())
    assert again == recipe
    assert again.as_json() == recipe.as_json()
    assert again.fingerprint() == recipe.fingerprint()


def leaves(plain: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(plain, dict):
        return [leaf for key, value in plain.items() for leaf in leaves(value, (*path, key))]
    return [(path, plain)]


def other(value: Any) -> Any:
    """Another value of the same type."""
    choices = {
        "fp32": "bf16",
        "cosine": "constant",
        "adamw": "sgd",
        "cross_entropy": "embedding",
        "train": "test",
        "model": "native",
    }
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value / 2 or 0.5
    if isinstance(value, list):
        return [*value[:-1], value[-1] / 2] if value and isinstance(value[-1], float) else [*value, "a {}"]
    return "1" if value is None else choices.get(value, f"{value}x")


def replaced(plain: Any, path: tuple[str, ...], value: Any) -> Any:
    return {**plain, path[0]: replaced(plain[path[0]], path[1:], value)} if path else value


def test_the_fingerprint_changes_with_any_value() -> None:
    plain = small_recipe(DATA, loss={"kind": "tecoa"}).as_json()  # FARE would refuse some of them
    fixed = ("kind", "quick_gelu", "classes")
    paths = [(path, value) for path, value in leaves(plain) if path[-1] not in fixed or path == ("optim", "kind")]
    given = {
        "lora": {"rank": 3},
        "text": {"optim": {"lr": 1, "steps": 1}},
        "shots": 2,
        "climb": "dlr",
        "drift": {"kind": "clean"},
        "suite": {"name": "clip14", "root": "data"},
    }
    recipes = [recipe_from(replaced(plain, path, given.get(path[-1], other(value)))) for path, value in paths]
    assert len(paths) > 20
    assert len({recipe.fingerprint() for recipe in [recipe_from(plain), *recipes]}) == len(paths) + 1


def test_the_fingerprint_does_not_change_with_how_a_number_is_written() -> None:
    assert small_recipe(DATA, optim__lr="1e-3").fingerprint() == small_recipe(DATA, optim__lr="1/1000").fingerprint()


def test_paths_are_relative_to_the_study_and_tags_are_not_paths(tmp_path: Path) -> None:
    (tmp_path / "here.bin").write_text("")
    sources: TypeAdapter[Any] = TypeAdapter(Parquet | Folder)
    models: TypeAdapter[Clip] = TypeAdapter(Clip)
    context = {"base": tmp_path}

    def path(value: str) -> str:
        read: str = sources.validate_python({"path": value}, context=context).path
        return read

    def weights(value: str) -> str | None:
        return models.validate_python({"weights": value}, context=context).weights

    assert path("a/b.parquet") == str(tmp_path / "a/b.parquet")
    assert path("/a/b.parquet") == "/a/b.parquet"
    assert path("s3://bucket/b.parquet") == "s3://bucket/b.parquet"
    assert weights("openai") == "openai"
    for name in ("here.bin", "sub/model", "model.safetensors"):
        assert weights(name) == str(tmp_path / name)


def test_the_attack_steps_of_training_are_counted() -> None:
    assert small_recipe(DATA).gradients() == 4 * 16 * 2
    assert small_recipe(DATA, optim__steps=0, optim__warmup=0).gradients() == 0
