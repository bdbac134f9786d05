"""A bundle's words on a terminal: shown, never obeyed."""

from __future__ import annotations

from embedge.cli.main import main


def test_terminal_escapes_of_a_bundle_are_not_printed(tiny, capsys) -> None:
    folder = tiny(changes={"name": "\x1b]0;owned\x07", "architecture": "\x1b[2J", "assumed": ("a\x9bb",)})
    assert main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in said)
    assert "owned" in said
