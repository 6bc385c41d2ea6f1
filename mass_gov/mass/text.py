"""Between text and tokens, for one model folder.

Rules: a question is always read as ordinary text: the name of a special token inside it never becomes that token.
Text that the tokenizer cannot represent, or that leaves no room in the context, is refused before anything is
computed. A chat template is rendered with a fixed date, since a prompt must be the same tomorrow.

Does not know what the tokens are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from mass_gov.errors import ModelError, TaskError
from mass_gov.mass.prompting import PromptTemplate

_FIXED_DATE = "26 Jul 2024"  # the date that Llama's own templates fall back to
_FIXED_CLOCK = f"{{% macro strftime_now(format) %}}{_FIXED_DATE}{{% endmacro %}}"  # shadows the library's clock

Tokens = tuple[int, ...]


class Text:
    """Encodes prompts and solutions, and decodes what was generated."""

    def __init__(self, tokenizer: Any, template: PromptTemplate, end_ids: Sequence[int], context: int | None) -> None:
        """`end_ids`: tokens that end a text, the first is the one solutions are trained to end with."""
        self._tokenizer = tokenizer
        self.template = template
        self.end_ids = frozenset(end_ids)
        self.end_id = end_ids[0]
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_id
        self._context = context
        self._known: dict[str, bool] = {}

    def solve_prompt(self, question: str) -> Tokens:
        """The tokens that a solution of `question` continues. Raises TaskError for unrepresentable text."""
        return self._prompt(self.template.solve_prompt(question), question)

    def practise_prompt(self, question: str) -> Tokens:
        """The tokens that a practice problem for `question` continues. Raises TaskError likewise."""
        return self._prompt(self.template.practise_prompt(question), question)

    def prompt(self, rendered: str) -> Tokens:
        """The tokens of a text that the template has made already."""
        return self._prompt(rendered, rendered)

    def solution(self, text: str) -> Tokens:
        """A solution's tokens, end token included, as they would follow a prompt."""
        return (*self._encode(text, add_special=False, literal=True), self.end_id)

    def continued(self, prompt: Tokens, text: str) -> Tokens:
        """A prompt's tokens and those of `text` as it would follow, without an end token."""
        return (*prompt, *self._encode(text, add_special=False, literal=True))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of generated tokens, special tokens dropped, cut before the first stop string."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        cuts = [text.find(stop) for stop in self.template.stop if stop in text]
        return text[: min(cuts)] if cuts else text

    def stops(self, tokens: Sequence[int]) -> bool:
        """Whether a stop string has been written. The end tokens are checked by id, not here."""
        if not self.template.stop:
            return False
        tail = tokens[-4 * max(map(len, self.template.stop)) :]  # a character is at most four bytes, so four tokens
        text = self._tokenizer.decode(list(tail), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return any(stop in text for stop in self.template.stop)

    def has_room(self, prompt: Tokens, new_tokens: int) -> bool:
        """Whether `prompt` and `new_tokens` more fit the model's context."""
        return self._context is None or len(prompt) + new_tokens <= self._context

    def check_room(self, prompt: Tokens, new_tokens: int) -> None:
        """Raise TaskError where `prompt` and `new_tokens` more do not fit the model's context."""
        if not self.has_room(prompt, new_tokens):
            raise TaskError(
                f"the task is too long: {len(prompt)} tokens with its prompt, and {new_tokens} to write, exceed the "
                f"model's limit of {self._context}. Shorten the task or lower max_new_tokens."
            )

    def check_width(self, width: int, new_tokens: int) -> None:
        """Raise TaskError where no batch of this model can have been padded to `width` tokens for so many new ones."""
        if self._context is not None and width + new_tokens > self._context:
            raise TaskError(
                f"prompts padded to {width} tokens, and {new_tokens} to write, exceed the model's limit of "
                f"{self._context}: no batch of it is that wide. Give the width of its widest prompt."
            )

    def _prompt(self, text: str, question: str) -> Tokens:
        if not self.template.chat:
            return self._encode(text, add_special=True, literal=True)
        for special in self._tokenizer.all_special_tokens:
            if special in question:
                raise TaskError(f"the task contains the model's control token {special!r}. Remove it.")
        return self._encode(self._render_chat(text), add_special=False, literal=False)

    def _render_chat(self, text: str) -> str:
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                chat_template=_FIXED_CLOCK + self._tokenizer.get_chat_template(),
                tokenize=False,
                add_generation_prompt=True,
                date_string=_FIXED_DATE,
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise ModelError(
                f"the model's chat template does not render a single user message: {error}. "
                'Add a prompt_template.json with "chat": false to the model folder.'
            ) from error
        return rendered

    def _encode(self, text: str, *, add_special: bool, literal: bool) -> Tokens:
        """`literal`: read the names of special tokens as plain characters."""
        encoded = self._tokenizer(
            text, add_special_tokens=add_special, split_special_tokens=literal, return_offsets_mapping=True
        )
        self._refuse_unrepresented(text, encoded["input_ids"], encoded["offset_mapping"])
        return tuple(encoded["input_ids"])

    def _refuse_unrepresented(self, text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> None:
        """TaskError for the first character that became the unknown token, or no token at all."""
        unknown = self._tokenizer.unk_token_id
        if unknown in self.end_ids:  # GPT-2 has one token for both, and never needs the unknown one
            unknown = None
        dropped = (place for place, character in enumerate(text) if not self._has_token(character))
        unread = (start for token, (start, _) in zip(ids, offsets, strict=True) if token == unknown)
        place = next(dropped, next(unread, None))
        if place is not None:
            raise TaskError(
                f"the model has no token for {text[place]!r} (character {place + 1} of the prompt). "
                "Rewrite the task without it."
            )

    def _has_token(self, character: str) -> bool:
        """Whether a character alone becomes any token. Offsets don't tell: they drift where text is dropped."""
        if character not in self._known:
            ids = self._tokenizer(character, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            self._known[character] = bool(ids) or character.isspace()
        return self._known[character]
