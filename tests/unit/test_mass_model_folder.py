"""A model folder that is damaged or unsafe is refused with one sentence on what to do, before any library opens it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mass_gov.errors import ModelError
from mass_gov.mass.adapter_files import CONFIG_FILE, TENSOR_FILE, read_settings
from mass_gov.mass.learner import Learner
from mass_gov.mass.model_folder import OTHER_WEIGHTS, base_digest, check_model_folder, check_safetensors
from mass_gov.mass.prompting import read_template
from tests.fakes.tiny_models import make_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def put_a_file_in_its_place(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


def cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def lengthen_weights(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"\0")


def cut_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10\0\0")


def leave_lfs_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


def claim_wrong_shape(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b'"shape":[100,32]', b'"shape":[100,31]', 1))


def leave_only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def index_of(folder: Path, shard: str, tensor: str = "lm_head.weight") -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {tensor: shard}}))


REFUSALS: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing folder", shutil.rmtree, "does not exist"),
    ("a file", put_a_file_in_its_place, "is not a folder"),
    ("no config", lambda f: (f / "config.json").unlink(), "has no config.json"),
    ("an adapter", lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter"),
    ("config is not JSON", lambda f: (f / "config.json").write_text("{"), "not readable JSON"),
    ("config is not an object", lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
    ("own code", lambda f: edit_json(f / "config.json", auto_map={"AutoModel": "evil.Evil"}), "run code of its own"),
    ("tokenizer code", lambda f: edit_json(f / "tokenizer_config.json", auto_map={}), "run code of its own"),
    ("truncated", cut_weights, "truncated or has extra bytes"),
    ("lengthened", lengthen_weights, "truncated or has extra bytes"),
    ("header cut", cut_header, "truncated or not a safetensors"),
    ("LFS pointer", leave_lfs_pointer, "git lfs pull"),
    ("wrong shape", claim_wrong_shape, "size of its shape"),
    ("pickle only", leave_only_a_pickle, "pickle, which can run code"),
    ("no weights", lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    ("absent shard", lambda f: index_of(f, "model-00002-of-00002.safetensors"), "lacks the shard"),
    ("escape", lambda f: index_of(f, "../other/model.safetensors"), "points outside its folder"),
    ("absent tensor", lambda f: index_of(f, "model-00001-of-00001.safetensors", "nowhere"), "lacks the tensor"),
    ("no tokenizer", lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
]


@pytest.mark.parametrize(("damage", "message"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_a_damaged_or_unsafe_folder_is_refused(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=message):
        check_model_folder(folder)


def test_the_learner_checks_before_it_loads(folder: Path) -> None:
    leave_only_a_pickle(folder)
    with pytest.raises(ModelError, match="never opened"):
        Learner.open(folder)


def test_an_unknown_architecture_is_a_model_error(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="unheard-of")
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model"):
        Learner.open(folder)


def test_weights_that_are_absent_are_not_made_up(folder: Path) -> None:
    edit_json(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(ModelError, match="do not fit its config"):
        Learner.open(folder)


def test_a_corrupt_tokenizer_is_a_model_error(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="tokenizer"):
        Learner.open(folder)


def test_a_whole_folder_passes_and_its_digest_follows_behaviour_only(folder: Path) -> None:
    check_model_folder(folder)
    digest = base_digest(folder)
    (folder / "MODEL_CARD.md").write_text("about")
    assert base_digest(folder) == digest
    (folder / "prompt_template.json").write_text("{}")
    assert base_digest(folder) != digest


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"])
def test_the_digest_changes_with_any_byte_that_matters(folder: Path, name: str) -> None:
    digest = base_digest(folder)
    stored = bytearray((folder / name).read_bytes())
    stored[-3] ^= 1
    (folder / name).write_bytes(stored)
    assert base_digest(folder) != digest


def test_a_sharded_model_opens_like_a_whole_one(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / shard, metadata={"format": "pt"})
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert Learner.open(folder).answer(["1+1"], None, max_new_tokens=3)


def test_what_only_describes_and_checks_never_imports_torch() -> None:
    modules = ("model_folder", "values", "prompting", "reference_model", "metering")
    imports = "; ".join(f"import mass_gov.mass.{module}" for module in modules)
    check = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize(
    "part", [{OTHER_WEIGHTS: "sub/w.safetensors"}, {"text_config": {OTHER_WEIGHTS: "w.safetensors.index.json"}}]
)
def test_a_config_that_names_other_weights_is_refused(folder: Path, part: dict[str, object]) -> None:
    """The library follows it: to weights that nobody checked or hashed, out of the folder, to a pickle."""
    edit_json(folder / "config.json", **part)
    with pytest.raises(ModelError, match="names other weights"):
        check_model_folder(folder)


def test_two_sets_of_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}')
    with pytest.raises(ModelError, match="only one is loaded"):
        check_model_folder(folder)


def test_a_shard_that_is_no_safetensors_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "evil.bin")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "evil.bin"}}')
    with pytest.raises(ModelError, match="no safetensors"):
        check_model_folder(folder)


NESTED = '{"a":' + "[" * 100_000


def test_what_is_nested_too_deeply_is_refused_like_anything_else(folder: Path) -> None:
    (folder / "prompt_template.json").write_text(NESTED)
    with pytest.raises(ModelError, match="prompt template"):
        read_template(folder, chat=False)
    (folder / "config.json").write_text(NESTED)
    with pytest.raises(ModelError, match="not readable JSON"):
        check_model_folder(folder)
    header = NESTED.encode()
    with pytest.raises(ModelError, match="corrupt header"):
        check_safetensors(len(header).to_bytes(8, "little") + header, 8 + len(header), "deep.safetensors")
    with pytest.raises(ModelError):
        read_settings({CONFIG_FILE: header, TENSOR_FILE: b""})
