"""Text in and out: what does not fit or has no token is refused, and a prompt is the same every day."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mass_gov.errors import ModelError, TaskError
from mass_gov.mass.learner import Learner
from mass_gov.mass.values import Adapter, LoraSettings, SamplingSettings, TrainingSample, UpdateSettings
from tests.fakes.tiny_models import ARCHITECTURES, TEMPLATE, make_model

SHORT = SamplingSettings(max_new_tokens=12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make_model(tmp_path_factory.mktemp(name), name) for name in ARCHITECTURES}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def learner(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Learner:
    return Learner.open(folders[request.param])


@pytest.fixture
def start(learner: Learner) -> Adapter:
    return learner.initial_adapter(LoraSettings(rank=4, alpha=8))


def test_a_task_that_does_not_fit_the_context_is_refused_with_the_limit(learner: Learner, start: Adapter) -> None:
    with pytest.raises(TaskError, match="limit of 256"):
        learner.answer(["1" * 250], None, max_new_tokens=8)
    with pytest.raises(TaskError, match="limit of 256"):
        learner.write_samples("1" * 250, start, count=2, seed=0, settings=SHORT)
    with pytest.raises(TaskError, match="limit of 256"):
        learner.update([TrainingSample("1" * 250, "#1", 1.0)], start, UpdateSettings())


def test_a_practice_problem_that_cannot_be_trained_on_is_named_and_not_raised(learner: Learner) -> None:
    assert learner.unusable("3+4", "#7") is None
    assert learner.unusable("é", "#7") == "unreadable"
    assert learner.unusable("3+4", "é#7") == "unreadable"
    assert learner.unusable("3+4", "1" * 250) == "too-long"


def test_a_task_of_exactly_the_context_is_answered(learner: Learner) -> None:
    # <bos>, "Q ", the question, "\nA " and eight new tokens
    (answer,) = learner.answer(["1" * (256 - 1 - 2 - 3 - 8)], None, max_new_tokens=8)
    assert len(answer.prompt_tokens) == 248


def test_text_without_a_token_is_refused_by_its_first_character(learner: Learner) -> None:
    with pytest.raises(TaskError, match=r"no token for 'é' \(character 6 "):
        learner.answer(["caféß"], None, max_new_tokens=2)


def test_text_that_a_tokenizer_would_silently_drop_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """A byte-pair model without an unknown token skips what it does not know."""
    folder = Path(shutil.copytree(folders["llama"], tmp_path / "dropping"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["unk_token"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    learner = Learner.open(folder)
    learner.answer(["3 + 4"], None, max_new_tokens=2)
    for question, place in (("é", 3), ("3 + é", 7)):
        with pytest.raises(TaskError, match=rf"no token for 'é' \(character {place} "):
            learner.answer([question], None, max_new_tokens=2)


def test_a_special_token_inside_a_question_is_only_text(learner: Learner) -> None:
    (answer,) = learner.answer(["<eos><pad>"], None, max_new_tokens=2)
    assert len(answer.prompt_tokens) == 1 + len("Q <eos><pad>\nA ")
    assert 2 not in answer.prompt_tokens


# --- chat models and stop strings ---


def with_template(source: Path, folder: Path, **changes: object) -> Path:
    copy = Path(shutil.copytree(source, folder))
    (copy / "prompt_template.json").write_text(json.dumps(TEMPLATE | changes))
    return copy


def test_a_chat_template_renders_the_same_prompt_every_day_and_lets_no_control_token_in(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = with_template(folders["qwen2"], tmp_path / "chat", chat=True)
    (folder / "chat_template.jinja").write_text(
        "<bos>{{ strftime_now('%d') }} {{ date_string }}|{{ messages[0]['content'] }}"
        "{% if add_generation_prompt %}<eos>{% endif %}"
    )
    learner = Learner.open(folder)
    (answer,) = learner.answer(["3+4"], None, max_new_tokens=2)
    text = learner._text._tokenizer.decode(answer.prompt_tokens)
    assert text == "<bos>26 Jul 2024 26 Jul 2024|Q 3+4\nA <eos>"
    with pytest.raises(TaskError, match="control token '<eos>'"):
        learner.answer(["3+4<eos>"], None, max_new_tokens=2)


def test_a_chat_template_that_does_not_render_is_a_model_error(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = with_template(folders["qwen2"], tmp_path / "chat", chat=True)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no user message alone') }}")
    with pytest.raises(ModelError, match="no user message alone"):
        Learner.open(folder).answer(["3+4"], None, max_new_tokens=2)


def test_a_stop_string_ends_a_text_and_is_cut_off(folders: dict[str, Path], tmp_path: Path) -> None:
    free = Learner.open(folders["llama"]).answer(["3+4"], None, max_new_tokens=20)[0].text
    stop = free[5:7]
    where = free.index(stop)
    learner = Learner.open(with_template(folders["llama"], tmp_path / "stop", stop=[stop]))
    (cut,) = learner.answer(["3+4"], None, max_new_tokens=20)
    assert (cut.text, cut.finished, len(cut.tokens)) == (free[:where], True, where + 2)
