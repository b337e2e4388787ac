"""Keeps secrets out of what is written: known values wherever they stand, and what looks like one by its name."""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, urlsplit

from mt5_bridge.settings import SecretStr, Settings, is_guessable

MASK = "***"
_WHOLE_WORD_BELOW = 8
"""Shorter secrets are masked only where they stand alone: `1234` must not hide every ticket that contains it."""

_NAMES = r"pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|hmac[_-]?key|signature|authorization"
_PROSE = (
    r"(?:is|are|was|has|needs?|must|may|can|cannot|does|not|no|the|a|so|it|which|written|sends|holds|missing)[\s;]+\w"
)
"""What follows a setting's name and a colon where it is talked about: a verdict, not its value."""

_NAMED = rf"""(?im)((?:\b|_)(?:{_NAMES})["']?\s*"""
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,}"), rf"\1 {MASK}"),
    (re.compile(r"(\w://[^\s/:@]*):[^\s/@]+@"), rf"\1:{MASK}@"),
    (re.compile(rf"""{_NAMED}[:=]\s*b?)(["'])(?:\\.|(?!\2).)+(?:\2|$)"""), rf"\1\2{MASK}\2"),
    (
        re.compile(
            rf"""{_NAMED}(?:=|:(?!\s+{_PROSE}))\s*)(?!["']|b["']|(?:bearer|basic)\s|None(?:[\s"',;&)}}\]]|$))[^\s"',;&)}}\]]+"""
        ),
        rf"\1{MASK}",
    ),
)
_SIGNS = ("://", "bearer", "basic", "pass", "pwd", "secret", "token", "api", "hmac", "signature", "authorization")
"""One of these is in whatever the patterns find: nearly all lines have none, and looking for them costs a tenth."""
_SECRET_NAME = re.compile(rf"(?i)(?:^|_)(?:{_NAMES})$")


class Redactor:
    """Masks secrets in texts.

    Args:
        secrets: values that must never be written, in clear.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(filter(None, secrets))
        self._known = self._pattern()

    def add(self, secret: str) -> None:
        """One more secret: it was replaced while the program runs. The former stays hidden."""
        if secret and secret not in self._secrets:
            self._secrets |= {secret}
            self._known = self._pattern()

    def _pattern(self) -> re.Pattern[str] | None:
        forms = {form: is_guessable(secret) for secret in self._secrets for form in _forms(secret)}
        # The longest first, so that a secret within another leaves nothing of the longer one.
        longest_first = sorted(forms.items(), key=lambda item: (-len(item[0]), item[0]))
        alternatives = "|".join(_guarded(form, guessable) for form, guessable in longest_first)
        return re.compile(alternatives) if alternatives else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._known:
            text = self._known.sub(MASK, text)
        folded = text.casefold()
        if any(sign in folded for sign in _SIGNS):
            for pattern, masked in _PATTERNS:
                text = pattern.sub(masked, text)
        return text

    def field(self, name: str, value: object) -> object:
        """A log field (text, number, None, or lists and maps of them) without secrets."""
        if value is not None and _is_secret(name):
            return MASK
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.field(key, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.field("", item) for item in value]
        return value


@lru_cache(maxsize=512)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _forms(secret: str) -> set[str]:
    """The secret as it is, and as JSON, a URL or `repr` would write it."""
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret, safe=""),
        repr(secret)[1:-1],
    }


def _guarded(form: str, guessable: bool) -> str:
    escaped = re.escape(form)
    if guessable:
        return rf"(?<=[\"']){escaped}(?=[\"'])"  # bare it is a word like any other
    return escaped if len(form) >= _WHOLE_WORD_BELOW else rf"(?<![A-Za-z0-9]){escaped}(?![A-Za-z0-9])"


def secrets_of(settings: Settings) -> list[str]:
    """Every secret of the settings in clear, and the passwords within addresses."""
    found = []
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else ""
        if text:
            found.append(text)
        address = text or (value if isinstance(value, str) else "")
        if "://" in address:
            found.append(urlsplit(address).password or "")
    return [secret for secret in found if secret]
