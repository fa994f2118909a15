"""`sweep schema` prints what editors validate studies with: it admits the shipped ones and finds mistakes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from sweeps.cli import main
from sweeps.source import shipped_studies
from sweeps.study import load_study


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads(CliRunner().invoke(main, ["schema"]).stdout)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def renamed(study: dict[str, Any]) -> None:
    study["recipe"]["loss"]["alfa"] = study["recipe"]["loss"].pop("alpha")


def without_objectives(study: dict[str, Any]) -> None:
    del study["objectives"]


def without_a_kind(study: dict[str, Any]) -> None:
    del study["recipe"]["attack"]["kind"]


def of_no_number(study: dict[str, Any]) -> None:
    study["recipe"]["optim"]["lr"] = "fast"


def with_negative_trials(study: dict[str, Any]) -> None:
    study["search"]["trials"] = -1


MISTAKES = [renamed, without_objectives, without_a_kind, of_no_number, with_negative_trials]


@pytest.mark.parametrize("study", shipped_studies())
def test_shipped_studies_satisfy_the_schema(study: str, validator: Draft202012Validator) -> None:
    validator.validate(yaml.safe_load(load_study(study).text))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_schema_finds_a_mistake(mistake: Callable[[dict[str, Any]], None], validator: Draft202012Validator) -> None:
    study = yaml.safe_load(load_study("alpha_study").text)
    mistake(study)
    assert not validator.is_valid(study)
