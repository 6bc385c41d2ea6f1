"""Opens a checked model folder with transformers, the same way every time: local files, float32, eager attention.

Rules: the folder is checked by `model_folder` first; weights that the folder does not hold are never made up; the
library's warnings and progress bars stay off stderr; whatever it raises becomes a ModelError.

Does not know adapters or prompts beyond reading the template's file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from mass_gov.errors import ModelError
from mass_gov.mass.model_folder import check_model_folder
from mass_gov.mass.numerics import Numerics
from mass_gov.mass.numerics import require as require_portable
from mass_gov.mass.prompting import read_template
from mass_gov.mass.text import Text

ATTENTION = "eager"  # SDPA's CPU kernel has no double backward, and fails only at the second derivative


def set_up_torch(threads: int, numerics: Numerics = "native") -> None:
    """One way of computing per process. Interop threads can only be set before the first parallel work.

    Raises SettingsError where portable numerics was asked for and this process does not compute so.
    """
    if numerics == "portable":
        require_portable(threads)
    torch.set_num_threads(threads)
    if torch.get_num_interop_threads() != 1:
        with suppress(RuntimeError):  # too late in this process; the fingerprint says how many there are
            torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("highest")


def load(folder: Path) -> tuple[nn.Module, Text]:
    """The causal language model (eval mode, frozen) and its text codec. Raises ModelError."""
    check_model_folder(folder)
    with _quiet():
        model, tokenizer = _load_model(folder), _load_tokenizer(folder)
    template = read_template(folder, chat=bool(tokenizer.chat_template))
    return model.eval(), Text(tokenizer, template, _end_ids(model, tokenizer, folder), _context_length(model))


def _load_model(folder: Path) -> Any:
    library: Any = AutoModelForCausalLM
    try:
        model, report = library.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation=ATTENTION,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a foreign config makes the library raise, the folder is at fault
        raise ModelError(
            f"{folder} cannot be loaded as a causal language model: {_first_line(error)} Check its config.json."
        ) from error
    for kind in ("missing_keys", "mismatched_keys"):
        if report[kind]:
            raise ModelError(
                f"the weights in {folder} do not fit its config ({kind}: {sorted(map(str, report[kind]))[0]}). "
                "Save the whole model again."
            )
    return model


def _load_tokenizer(folder: Path) -> Any:
    """The tokenizer exactly as its tokenizer.json says.

    AutoTokenizer would, for some model types (Qwen2 among them), keep only the vocabulary and put a pre-tokenizer of
    its own before it, which silently drops what it cannot represent; it is used only where there is no such file.
    """
    library: Any = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
    try:
        tokenizer = library.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # as above
        raise ModelError(f"the tokenizer in {folder} cannot be loaded: {_first_line(error)} Save it again.") from error
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer in {folder} is not a fast one. Save it as tokenizer.json.")
    return tokenizer


def _first_line(error: Exception) -> str:
    """A foreign error in one line; the whole of it stays in the exception's chain."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return line if line.endswith(".") else f"{line}."


def _end_ids(model: Any, tokenizer: Any, folder: Path) -> list[int]:
    """The tokenizer's end token first, then those of the generation config."""
    configured = model.generation_config.eos_token_id
    more = configured if isinstance(configured, list) else [configured]
    ids = [i for i in (tokenizer.eos_token_id, *more) if i is not None]
    if not ids:
        raise ModelError(f"the model in {folder} has no end token. Set eos_token in its tokenizer_config.json.")
    return list(dict.fromkeys(ids))


def _context_length(model: Any) -> int | None:
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        length = getattr(model.config, name, None)
        if isinstance(length, int):
            return length
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' warnings and progress bars away, through its own switches, and put them back."""
    logging: Any = transformers_logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
