"""Regular expressions of a tokenizer: those that end in a time that goes with the text, told from those that may not.

The engine behind the tokenizers package goes back to every choice it made. A repetition of what itself varies has
exponentially many of them, several repetitions in a row have a power of the text's length. What published tokenizers
state has neither, and is written in the part of the syntax that is read here.
"""

from __future__ import annotations

import re

import msgspec

LONGEST = 8192
_MOST_REPEATS = 1000
_MOST_UNBOUNDED = 3
_MOST_CHOICES = 10_000
_DEEPEST = 16
_OPENINGS = ("(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>")
_WITH_OPTIONS = re.compile(r"\(\?[im]*(?:-[im]+)?:|\(\?<[A-Za-z_]\w{0,63}>")
_SWITCH = re.compile(r"\(\?[im]+\)")
_ESCAPE = re.compile(
    r"\\(?:[pP]\{\^?[\w ]{1,40}\}|x\{[0-9a-fA-F]{1,6}\}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^xupPkgKX1-9])"
)
_BROAD = ("\\S", "\\W", "\\D", "\\H", "\\P", "\\p{^", "\\N", "\\O")
_WIDTHLESS = frozenset("^$") | {"\\b", "\\B", "\\A", "\\z", "\\Z", "\\G", "\\y", "\\Y"}
_BRACES = re.compile(r"\{(\d{0,9})(,?)(\d{0,9})\}")


class UnsafePatternError(ValueError):
    """A regular expression that can take for ever, or is not of the known part of the syntax."""


class Cost(msgspec.Struct, frozen=True):
    """What an expression can make the engine do.

    Attributes:
        least: characters that it matches at least.
        unbounded: repetitions without a limit, one after the other.
        broad: those of them that go over almost every character.
        choices: ways to match, repetitions without a limit apart.
        varies: it matches several lengths, or in several ways.
    """

    least: int = 0
    unbounded: int = 0
    broad: int = 0
    choices: int = 1
    varies: bool = False


def cost_of(pattern: str) -> Cost:
    """Read a regular expression as Oniguruma does.

    Raises:
        UnsafePatternError: it repeats what varies, has too many choices, or anything that is not known here.
    """
    if len(pattern) > LONGEST:
        raise UnsafePatternError(f"it has {len(pattern)} characters, more than {LONGEST}")
    reader = _Reader(pattern)
    found = reader.alternatives(0)
    if reader.position < len(pattern):
        raise UnsafePatternError(f"a parenthesis is closed at {reader.position} that was not opened")
    return found


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.position = 0

    def alternatives(self, depth: int) -> Cost:
        """Up to a closing parenthesis or the end."""
        if depth > _DEEPEST:
            raise UnsafePatternError(f"it has groups within groups, more than {_DEEPEST} deep")
        if switch := _SWITCH.match(self._pattern, self.position):
            self.position = switch.end()
        branches = [self._sequence(depth)]
        while self._at("|"):
            self.position += 1
            branches.append(self._sequence(depth))
        if len(branches) == 1:
            return branches[0]
        return _checked(
            Cost(
                least=min(each.least for each in branches),
                unbounded=max(each.unbounded for each in branches),
                broad=max(each.broad for each in branches),
                choices=sum(each.choices for each in branches),
                varies=True,
            )
        )

    def _sequence(self, depth: int) -> Cost:
        whole = Cost()
        while self.position < len(self._pattern) and not self._at("|") and not self._at(")"):
            part = self._repeated(*self._atom(depth))
            whole = _checked(
                Cost(
                    least=whole.least + part.least,
                    unbounded=whole.unbounded + part.unbounded,
                    broad=whole.broad + part.broad,
                    choices=whole.choices * part.choices,
                    varies=whole.varies or part.varies,
                )
            )
        return whole

    def _atom(self, depth: int) -> tuple[Cost, bool]:
        """What the next character begins, and whether it is one of almost all characters."""
        pattern, start = self._pattern, self.position
        letter = pattern[start]
        if letter == "(":
            return self._group(depth), False
        if letter == "[":
            self._skip_class()
            text = pattern[start : self.position]
            return Cost(least=1), "[^" in text or any(each in text for each in _BROAD)
        if letter == "\\":
            escape = self._escape()
            return Cost(least=escape not in _WIDTHLESS), escape.startswith(_BROAD)
        if letter in "*+?":
            raise UnsafePatternError(f"nothing is repeated at {start}")
        self.position += 1
        return Cost(least=letter not in _WIDTHLESS), letter == "."

    def _group(self, depth: int) -> Cost:
        pattern, start = self._pattern, self.position
        known = next((each for each in _OPENINGS if pattern.startswith(each, start)), None)
        if known is None and (opening := _WITH_OPTIONS.match(pattern, start)):
            known = opening.group()
        if known is None and pattern.startswith("(?", start):
            raise UnsafePatternError(
                f"a group of an unknown kind begins at {start}: {pattern[start : start + 8]!r}"
            )
        self.position += len(known or "(")
        inside = self.alternatives(depth + 1)
        if not self._at(")"):
            raise UnsafePatternError(f"the group at {start} is not closed")
        self.position += 1
        looks = known in ("(?=", "(?!", "(?<=", "(?<!")
        return msgspec.structs.replace(inside, least=0) if looks else inside

    def _escape(self) -> str:
        found = _ESCAPE.match(self._pattern, self.position)
        if found is None:
            text = self._pattern[self.position : self.position + 8]
            raise UnsafePatternError(f"an unknown escape begins at {self.position}: {text!r}")
        self.position = found.end()
        return found.group()

    def _skip_class(self) -> None:
        """A set of characters, sets within it included."""
        start, depth = self.position, 0
        while self.position < len(self._pattern):
            letter = self._pattern[self.position]
            if letter == "\\":
                self._escape()
                continue
            self.position += 1
            if letter == "[":
                depth += 1
                if self._at("^"):
                    self.position += 1
                if self._at("]"):
                    raise UnsafePatternError(f"the set of characters at {start} is empty")
            elif letter == "]":
                depth -= 1
                if not depth:
                    return
        raise UnsafePatternError(f"the set of characters at {start} is not closed")

    def _repeated(self, part: Cost, broad: bool) -> Cost:
        start = self.position
        limits = self._limits()
        if limits is None:
            return part
        least, most = limits
        if self._limits() is not None:
            raise UnsafePatternError(f"a repetition at {start} is repeated")
        if most == 1:
            return Cost(part.least * least, part.unbounded, part.broad, part.choices + 1, varies=True)
        if part.varies:
            raise UnsafePatternError(f"what is repeated before {start} is itself one of several")
        if least > _MOST_REPEATS or (most or 0) > _MOST_REPEATS:
            raise UnsafePatternError(f"a repetition at {start} is of more than {_MOST_REPEATS}")
        if most is None:
            return Cost(part.least * least, 1, int(broad), varies=True)
        return Cost(part.least * least, choices=max(1, most - least + 1), varies=True)

    def _limits(self) -> tuple[int, int | None] | None:
        """How often what is before is repeated; None where it is not."""
        letter = self._pattern[self.position : self.position + 1]
        if letter and letter in "*+?":
            self.position += 1
            if self._at("?") or self._at("+"):  # lazy, or never given back
                self.position += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[letter]
        braces = _BRACES.match(self._pattern, self.position)
        if braces is None or not (braces[1] or braces[3]):
            return None  # which the engine takes for letters
        self.position = braces.end()
        if self._at("?"):
            self.position += 1
        least = int(braces[1] or 0)
        if not braces[2]:
            return least, least
        return least, int(braces[3]) if braces[3] else None

    def _at(self, letter: str) -> bool:
        return self._pattern.startswith(letter, self.position)


def _checked(cost: Cost) -> Cost:
    if cost.unbounded > _MOST_UNBOUNDED or cost.broad > 1:
        raise UnsafePatternError("it has too many repetitions without a limit, one after the other")
    if cost.choices > _MOST_CHOICES:
        raise UnsafePatternError(f"it can match in more than {_MOST_CHOICES} ways")
    return cost
