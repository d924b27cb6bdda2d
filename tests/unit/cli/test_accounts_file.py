"""The file of `--accounts-file`, in the forms that people have it in."""

from __future__ import annotations

from pathlib import Path

import pytest

from imdsctl.cli.accounts_file import read_accounts_file
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.fleet.selection import ListedAccount

SHOP = ListedAccount("111122223333", "shop")
LAB = ListedAccount("444455556666", "lab, old", "Reader")


def read(directory: Path, text: str) -> tuple[ListedAccount, ...]:
    path = directory / "accounts"
    path.write_text(text)
    return read_accounts_file(path)


@pytest.mark.parametrize(
    ("text", "accounts"),
    [
        ("111122223333\n\n# a comment\n444455556666\n111122223333\n", [("111122223333",), ("444455556666",)]),
        ('account_id,name,role\n111122223333,shop,\n444455556666,"lab, old",Reader\n', [SHOP, LAB]),
        ("Role,Id,Name\n,111122223333,shop\n", [SHOP]),
        ('["111122223333"]', [("111122223333",)]),
        ('[{"account_id": "444455556666", "name": "lab, old", "role": "Reader"}]', [LAB]),
        ('{"Accounts": [{"Id": "111122223333", "Name": "shop", "State": "ACTIVE"}]}', [SHOP]),
    ],
)
def test_ids_csv_and_json_are_read(tmp_path: Path, text: str, accounts: list[ListedAccount | tuple[str]]) -> None:
    expected = [each if isinstance(each, ListedAccount) else ListedAccount(*each) for each in accounts]
    assert list(read(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("11112222333\n111122223333\nshop\n", [":1", ":3"]),
        ("account_id,role\n111122223333,a role\n", [":2"]),
        ('["1"]', [":entry 1"]),
        ("[1,", [""]),
        ('{"accounts": 5}', [""]),
        ("# nobody\n", [""]),
    ],
)
def test_everything_that_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, places: list[str]) -> None:
    with pytest.raises(DiagnosticError) as refused:
        read(tmp_path, text)
    assert [each.subject for each in refused.value.diagnostics] == [f"{tmp_path / 'accounts'}{each}" for each in places]
    assert {each.code for each in refused.value.diagnostics} == {"accounts-file-invalid"}
    assert refused.value.exit_code == 2


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError, match="accounts-file-unreadable"):
        read_accounts_file(tmp_path / "nothing")
