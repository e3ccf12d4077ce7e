"""Which passwords are accepted: long enough, not too long, and none that everybody tries first.

No composition rules (ASVS 5.0 6.2.5). Common passwords are not a list to compare with but the ways people make them:
a common
word, dressed with digits, marks and look-alike letters; a run along the keyboard; one piece repeated. Source: NIST SP
800-63B 5.1.1.2.
"""

import re
import unicodedata
from functools import cache
from importlib.resources import files

from libs.errors import Violation
from services.auth.domain.errors import PasswordRefused

MIN_CHARS, MAX_CHARS = 8, 128
_LOOK_ALIKE = str.maketrans("013457@$!|", "oieastasil")
_RUNS = (
    "01234567890123456789",
    "98765432109876543210",
    "abcdefghijklmnopqrstuvwxyz",
    "zyxwvutsrqponmlkjihgfedcba",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "q1w2e3r4t5y6u7i8o9p0",
    "1q2w3e4r5t6y7u8i9o0p",
    "mnbvcxzlkjhgfdsapoiuytrewq",
)
_ALL_DIGITS_CHARS = 12  # fewer digits and marks than this, and nothing else, are soon tried through
_EDGES = re.compile(r"^[\W\d_]+|[\W\d_]+$")


def normal(password: str) -> str:
    """The password as it is hashed: NFC, so that two keyboards spell it alike. Its length is counted after this."""
    return unicodedata.normalize("NFC", password)


def accept(password: str, *, email: str = "") -> str:
    """The normal form of a password somebody may choose. Raises PasswordRefused with the reason, never with the
    password.
    """
    chosen = normal(password)
    if not MIN_CHARS <= len(chosen) <= MAX_CHARS:
        raise refused(f"needs {MIN_CHARS} to {MAX_CHARS} characters")
    if common(chosen) or _from_address(chosen, email):
        raise refused("is one of those that are tried first")
    return chosen


def common(password: str) -> bool:
    """Whether *password* is made the way the most frequent ones are."""
    folded = password.casefold()
    if _repeats(folded) or any(folded in run for run in _RUNS):
        return True
    bare = _EDGES.sub("", folded)
    if not bare:
        return len(password) < _ALL_DIGITS_CHARS
    plain = folded.translate(_LOOK_ALIKE)
    spellings = {bare, bare.translate(_LOOK_ALIKE), plain, _EDGES.sub("", plain)}
    return any(_is_word(spelling) for spelling in spellings)


def refused(why: str) -> PasswordRefused:
    """The refusal of the field `password`."""
    return PasswordRefused(f"The password {why}.", violations=[Violation("password", why)])


def _from_address(password: str, email: str) -> bool:
    local = email.partition("@")[0].casefold()
    return bool(email) and password.casefold() in {email.casefold(), local}


def _is_word(text: str) -> bool:
    """A common word, twice the same word, or two of them in a row."""
    words = _words()
    return text in words or any(text[:at] in words and text[at:] in words for at in range(3, len(text) - 2))


def _repeats(text: str) -> bool:
    """One piece of up to four characters, again and again."""
    return any(text == (text[:size] * len(text))[: len(text)] for size in range(1, 5))


@cache
def _words() -> frozenset[str]:
    text = files("services.auth.domain").joinpath("common_words.txt").read_text("utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())
