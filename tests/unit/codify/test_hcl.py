"""Terraform's language: hostile text stays text, and the layout is that of `terraform fmt`."""

from __future__ import annotations

import pytest

from imdsctl.codify.hcl import Block, Call, Expression, block_text, commented, expression, identifier, quoted


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("plain", '"plain"'),
        ('say "no"', r'"say \"no\""'),
        ("${aws:username}", '"$${aws:username}"'),
        ("%{ for x in y }", '"%%{ for x in y }"'),
        ("$${x} $$${x}", '"$\\u0024{x} $$\\u0024{x}"'),
        ("$ % { }", '"$ % { }"'),
        ("a\nb\tc\\", r'"a\nb\tc\\"'),
        ("\x1b[2J\x00", r'"\u001b[2J\u0000"'),
        ("\u202egpj", r'"\u202egpj"'),
        ("\ud800", r'"\ufffd"'),
        ("größe", '"größe"'),
    ],
)
def test_a_string_is_its_text_and_nothing_is_evaluated(text: str, literal: str) -> None:
    assert quoted(text) == literal


def test_names() -> None:
    assert identifier("deny v1 ${x}", "p-1") == "deny_v1_x_p_1"
    assert identifier("1st") == "r_1st"
    assert identifier("日本", "p-2") == "p_2"


def test_neighbours_are_aligned_and_what_needs_lines_stands_alone() -> None:
    block = Block(
        "resource",
        ("t", "n"),
        (
            ("provider", Expression("aws.x")),
            ("id", 1),
            (
                "content",
                Call("jsonencode", {"Version": "1", "@@assign": [True, None], "Statement": [{"Effect": "Deny"}]}),
            ),
            ("a", []),
            Block("lifecycle", (), (("prevent_destroy", True),)),
        ),
    )
    assert (
        block_text(block)
        == """\
resource "t" "n" {
  provider = aws.x
  id       = 1
  content = jsonencode({
    Version = "1"
    "@@assign" = [
      true,
      null,
    ]
    Statement = [
      {
        Effect = "Deny"
      },
    ]
  })
  a = []
  lifecycle {
    prevent_destroy = true
  }
}
"""
    )


def test_what_has_no_place() -> None:
    with pytest.raises(ValueError, match="inf"):
        expression(float("inf"))
    with pytest.raises(TypeError):
        expression(object())


def test_comments_hold_every_line() -> None:
    assert commented("a\n\nb") == "# a\n#\n# b\n"
