"""`imdsctl check` on files: cases as data, and what happens to bad input."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from imdsctl.adapters.iac_files import code_files, read_all
from imdsctl.codify.findings import Fix
from imdsctl.codify.iac_check import CheckedCode, check_code
from imdsctl.codify.iac_world import World, of_intent, of_scan
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import ImageSeen, RegionSeen, Target, TemplateVersionSeen
from imdsctl.domain.options import AccountDefaults, MetadataOptions

CASES = Path(__file__).parents[2] / "cases" / "iac"
EXPECTED = json.loads((CASES / "expected.json").read_text())
WANTED = of_intent(Intent())
TARGET = Target("111122223333", "eu-west-1")


def check(*paths: Path, world: World = WANTED, var_files: Sequence[Path] = ()) -> tuple[CheckedCode, list[str]]:
    """What is found, and `CODE SUBJECT` of all that could not be read."""
    code = read_all(paths, var_files)
    checked = check_code(code.sources, world, code.values)
    return checked, [f"{each.code} {each.subject}" for each in [*code.problems, *checked.unread]]


def test_every_case_is_in_the_manifest() -> None:
    assert {path.name for path in (CASES / "files").iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_case(name: str) -> None:
    checked, unread = check(CASES / "files" / name)
    assert [[each.line, each.rule.id] for each in checked.findings] == EXPECTED[name]
    assert not unread
    assert checked.resources or name == "good-count-zero.tf"


def test_the_reason_names_each_layer_that_was_silent(tmp_path: Path) -> None:
    code = tmp_path / "main.tf"
    code.write_text('resource "aws_instance" "web" {\n  ami = "ami-0a"\n}\n')
    seen = RegionSeen(TARGET, AccountDefaults(), images=(ImageSeen("ami-0a"),))
    (finding,) = check(code, world=of_scan(seen, Intent()))[0].findings
    assert finding.rule.id == "imdsv1-allowed"
    assert finding.message == (
        "aws_instance.web: this launch gets `optional`, because the launch says nothing, the Region default is unset"
        " (the scan of 111122223333/eu-west-1) and the image does not say ImdsSupport=v2.0"
    )


@pytest.mark.parametrize(
    ("seen", "rules"),
    [
        (RegionSeen(TARGET, AccountDefaults(), images=(ImageSeen("ami-0a", imds_support="v2.0"),)), []),
        (RegionSeen(TARGET, AccountDefaults(), images=(ImageSeen("ami-0a", found=False),)), ["imds-unknown"]),
        (RegionSeen(TARGET, AccountDefaults()), ["imds-unknown"]),
        (RegionSeen(TARGET, None, images=(ImageSeen("ami-0a"),)), ["imds-unknown"]),
        (RegionSeen(TARGET, AccountDefaults.from_aws({"HttpTokens": "required"})), []),
        (RegionSeen(TARGET, AccountDefaults.from_aws({"HttpTokens": "optional"})), ["imdsv1-allowed"]),
    ],
)
def test_a_silent_launch_gets_what_the_scan_saw(seen: RegionSeen, rules: list[str], tmp_path: Path) -> None:
    code = tmp_path / "main.tf"
    code.write_text('resource "aws_instance" "web" {\n  ami = "ami-0a"\n}\n')
    checked, _ = check(code, world=of_scan(seen, Intent()))
    assert [each.rule.id for each in checked.findings] == rules


def test_a_template_that_only_the_scan_knows(tmp_path: Path) -> None:
    said = MetadataOptions.from_aws({"HttpTokens": "optional"})
    template = TemplateVersionSeen("lt-0123456789abcdef0", "web", 1, True, True, said)
    seen = RegionSeen(TARGET, AccountDefaults.from_aws({"HttpTokens": "required"}), templates=(template,))
    (finding,) = check(CASES / "files" / "bad-group-elsewhere.tf", world=of_scan(seen, Intent()))[0].findings
    assert finding.rule.id == "imdsv1-allowed"
    assert finding.message.endswith("because the launch says nothing and the launch template says `optional`")


def applied(text: str, fixes: set[Fix]) -> str:
    lines = text.split("\n")
    for each in sorted(fixes, key=lambda each: (each.line, each.column), reverse=True):
        assert each.line == each.end_line
        line = lines[each.line - 1]
        lines[each.line - 1] = line[: each.column - 1] + each.text + line[each.end_column - 1 :]
    return "\n".join(lines)


BAD = [name for name in EXPECTED if EXPECTED[name]]


@pytest.mark.parametrize("name", BAD)
def test_a_finding_says_what_is_to_be_written_and_the_edit_makes_it_so(name: str, tmp_path: Path) -> None:
    source, copy = CASES / "files" / name, tmp_path / name
    shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    findings = check(copy)[0].findings
    outside = [each for each in findings if "is not in the code: check the plan" in each.message]
    assert all(each.corrected for each in findings if each not in outside)
    for file in {each.file for each in findings}:
        fixes = {each.fix for each in findings if each.file == file and each.fix is not None}
        Path(file).write_text(applied(Path(file).read_text(), fixes))
    after, unread = check(copy)
    assert not unread
    assert len(after.findings) == sum(each.fix is None for each in findings)


def test_a_block_that_is_missing_is_added_where_it_belongs(tmp_path: Path) -> None:
    tf, yaml = tmp_path / "a.tf", tmp_path / "b.yaml"
    tf.write_text('resource "aws_instance" "web" {\n  ami = "ami-0a"\n}\n')
    yaml.write_text("Resources:\n  Web:\n    Type: AWS::EC2::Instance\n    Properties:\n      ImageId: ami-0a\n")
    open_world = World((AccountDefaults(),), {"ami-0a": ImageSeen("ami-0a")})
    one, two = check(tf, yaml, world=open_world)[0].findings
    assert one.fix is not None
    assert two.fix is not None
    assert applied(tf.read_text(), {one.fix}) == (
        'resource "aws_instance" "web" {\n  metadata_options {\n    http_tokens = "required"\n  }\n'
        '  ami = "ami-0a"\n}\n'
    )
    assert applied(yaml.read_text(), {two.fix}).endswith(
        "    Properties:\n      MetadataOptions:\n        HttpTokens: required\n      ImageId: ami-0a\n"
    )


def reasons(name: str, **more: Any) -> list[str]:
    folder = CASES / "files" / name
    found = check(folder, **more)[0].findings
    return [each.message.replace(f"{folder}/", "") for each in found]


def test_a_variable_says_where_its_value_comes_from_or_what_it_lacks() -> None:
    found = reasons("bad-variables")
    assert "says so (the default of var.tokens in variables.tf:1)" in found[0]
    assert found[1].endswith("because HttpTokens depends on var.asked, which has no default")
    assert "(the default of var.stage in variables.tf:9 and local.weak in variables.tf:25)" in found[2]
    assert found[7].endswith("depends on local.one, which stands for itself")
    assert found[8].endswith("depends on data.aws_ssm_parameter.tokens.value, which only a run knows")


def test_values_of_variables_from_a_file_that_is_named(tmp_path: Path) -> None:
    values = tmp_path / "prod.tfvars"
    values.write_text('tokens = "required"\nasked = "optional"\n')
    found = reasons("bad-variables", var_files=[values])
    assert f"(var.asked in {values}:2)" in found[0]
    assert not any("aws_instance.default:" in each for each in found)


def test_a_file_alone_is_judged_with_the_variables_beside_it() -> None:
    folder = CASES / "files" / "bad-variables"
    alone, _ = check(folder / "main.tf")
    assert alone.findings == check(folder)[0].findings
    assert alone.recognized == (str(folder / "main.tf"),)


def test_a_module_is_judged_as_it_is_called() -> None:
    outside, forgetful, weak = reasons("bad-modules")
    assert "the module `terraform-aws-modules/ec2-instance/aws` is not in the code" in outside
    assert forgetful.endswith("depends on var.tokens, which the call of module.forgetful does not give")
    assert weak.startswith("module.weak.aws_launch_template.this: what uses this launch template gets `optional`")


def test_names_that_multiply_cost_nothing(tmp_path: Path) -> None:
    lines = ["locals {", '  a0 = ["x"]', '  b0 = "xxxxxxxxxx"', "  c0 = 9"]
    lines += [f"  a{n} = [{', '.join([f'local.a{n - 1}'] * 10)}]" for n in range(1, 30)]
    lines += [f'  b{n} = "{"${local.b" + str(n - 1) + "}"}{"${local.b" + str(n - 1) + "}"}"' for n in range(1, 40)]
    lines += [f"  c{n} = local.c{n - 1} * local.c{n - 1}" for n in range(1, 40)]
    lines += ["}", 'resource "aws_instance" "a" {', "  metadata_options {", "    http_tokens = local.b39"]
    lines += ["    http_put_response_hop_limit = local.c39", "  }", "  ami = local.a29", "}"]
    (tmp_path / "main.tf").write_text("\n".join(lines))
    checked, unread = check(tmp_path)
    assert [each.rule.id for each in checked.findings] in ([], ["imds-unknown"])
    assert checked.findings or unread


VERSIONS = tuple(
    TemplateVersionSeen(
        "lt-0a", "web", number, number == 1, number == 4, MetadataOptions.from_aws({"HttpTokens": said})
    )
    for number, said in ((1, "optional"), (3, "required"), (4, "required"))
)


@pytest.mark.parametrize(
    ("version", "rules", "why"),
    [
        (None, ["imdsv1-allowed"], "the launch template says `optional`"),
        ('"$Default"', ["imdsv1-allowed"], "the launch template says `optional`"),
        ("1", ["imdsv1-allowed"], "the launch template says `optional`"),
        ('"3"', [], ""),
        ('"$Latest"', [], ""),
        ('"2"', ["imds-unknown"], "version 2 of the launch template web is not in the scan of 111122223333/eu-west-1"),
        ("var.v", ["imds-unknown"], "the version of the launch template web depends on var.v, which has no default"),
    ],
)
@pytest.mark.parametrize("kind", ["aws_instance", "aws_autoscaling_group", "aws_eks_node_group"])
def test_a_template_of_the_scan_is_judged_by_the_version_that_is_named(
    kind: str, version: str | None, rules: list[str], why: str, tmp_path: Path
) -> None:
    line = f"    version = {version}\n" if version else ""
    text = f'variable "v" {{}}\nresource "{kind}" "a" {{\n  launch_template {{\n    name = "web"\n{line}  }}\n}}\n'
    (tmp_path / "main.tf").write_text(text)
    seen = RegionSeen(TARGET, AccountDefaults.from_aws({"HttpTokens": "required"}), templates=VERSIONS)
    findings = check(tmp_path, world=of_scan(seen, Intent()))[0].findings
    assert [each.rule.id for each in findings] == rules
    assert all(why in each.message for each in findings)


def test_a_template_of_the_scan_in_cloudformation(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "Resources:\n  G:\n    Type: AWS::AutoScaling::AutoScalingGroup\n    Properties:\n"
        '      LaunchTemplate: {LaunchTemplateName: web, Version: "3"}\n'
        "  H:\n    Type: AWS::EC2::Instance\n    Properties:\n"
        "      LaunchTemplate: {LaunchTemplateId: lt-0a, Version: 1}\n"
    )
    seen = RegionSeen(TARGET, AccountDefaults.from_aws({"HttpTokens": "required"}), templates=VERSIONS)
    (finding,) = check(tmp_path, world=of_scan(seen, Intent()))[0].findings
    assert (finding.line, finding.rule.id) == (6, "imdsv1-allowed")


@pytest.mark.parametrize(("second", "rules"), [("optional", ["imdsv1-allowed"] * 2), ("required", None)])
def test_a_plan_names_a_resource_without_its_index(second: str, rules: list[str] | None, tmp_path: Path) -> None:
    # Which of two templates that differ is meant is not in the plan.
    def change(address: str, after: object, unknown: object) -> object:
        kind = address.partition(".")[0]
        return {"address": address, "type": kind, "change": {"after": after, "after_unknown": unknown}}

    def template(key: str, tokens: str) -> object:
        after = {"metadata_options": [{"http_tokens": tokens}]}
        return change(f'aws_launch_template.a["{key}"]', after, {"id": True})

    references = {"launch_template": [{"id": {"references": ["aws_launch_template.a"]}}]}
    group = change("aws_autoscaling_group.g", {"launch_template": [{}]}, {"launch_template": [{"id": True}]})
    plan = {
        "format_version": "1.2",
        "resource_changes": [template("x", "optional"), template("y", second), group],
        "configuration": {
            "root_module": {"resources": [{"address": "aws_autoscaling_group.g", "expressions": references}]}
        },
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    found = [each.rule.id for each in check(tmp_path)[0].findings]
    assert sorted(found) == (rules or ["imds-unknown", "imdsv1-allowed"])


def test_names_of_a_folder_go_across_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.tf").write_text(
        'resource "aws_instance" "web" {\n  launch_template {\n    id = aws_launch_template.web.id\n  }\n}\n'
    )
    (tmp_path / "b.tf").write_text(
        'resource "aws_launch_template" "web" {\n  metadata_options {\n    http_tokens = "optional"\n  }\n}\n'
    )
    checked, _ = check(tmp_path)
    assert [(Path(each.file).name, each.line) for each in checked.findings] == [("b.tf", 3)]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("cut.json", b'{"Resources": {"A": {"Type": "AWS::EC2::Instance"', ":1:50"),
        ("comment.json", b'{"Resources": { // no\n "A": {"Type": "AWS::EC2::Instance"}}}', ":1:17"),
        ("comma.json", b'{"Resources": {"A": {"Type": "AWS::EC2::Instance"},}}', ":1:51"),
        ("cut.yaml", b"Resources:\n  A: {Type: AWS::EC2::Instance", ":3:1"),
        ("tab.yaml", b"Resources:\n\tA: AWS::EC2::Instance", ":2:1"),
        ("cut.tf", b'resource "aws_instance" "a" {\n  x = \n}\n', ":2:7"),
        ("open.tf", b'resource "aws_instance" "a" {\n', ":2"),
        ("latin.tf", b'# caf\xe9\nresource "aws_instance" "a" {}\n', ""),
        ("old.json", b'{"format_version": "0.2", "resource_changes": []}', ":1:2"),
        ("state.json", b'{"format_version": "1.0", "terraform_version": "1.9.8", "planned_values": {}}', ":1"),
        ("deep.yaml", b"MetadataOptions: " + b"[" * 5000, ":1"),
        ("deep.json", b'{"MetadataOptions": ' + b"[" * 5000, ":1"),
        ("form.json", b'{"Resources": {"A": {"Type": "AWS::EC2::Instance", "Properties": {"ImageId": 1', ":1"),
    ],
)
def test_bad_input_is_named_and_the_rest_is_processed(name: str, content: bytes, place: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "zz.tf").write_text((CASES / "files" / "bad-typo.tf").read_text())
    checked, unread = check(tmp_path)
    assert any(each.rule.id == "invalid-value" for each in checked.findings)
    assert len(unread) == 1
    assert unread[0].split(" ", 1)[1].startswith(f"{tmp_path / name}{place}")


@pytest.mark.parametrize("value", ["null", "[]", "3", '"x"', "[1, null]", '{"a": null}', "[{}]"])
@pytest.mark.parametrize("kind", ["Instance", "LaunchTemplate", "SpotFleet", "EC2Fleet"])
def test_properties_of_another_form_never_end_the_check(kind: str, value: str, tmp_path: Path) -> None:
    names = ("MetadataOptions", "LaunchTemplate", "LaunchTemplateData", "LaunchTemplateConfigs", "UserData", "ImageId")
    properties = ", ".join(f'"{name}": {value}' for name in names)
    (tmp_path / "a.json").write_text(
        f'{{"Resources": {{"A": {{"Type": "AWS::EC2::{kind}", "Properties": {{{properties}}}}}, "B": {value}}}}}'
    )
    (tmp_path / "b.tf").write_text((CASES / "files" / "bad-typo.tf").read_text())
    checked, _ = check(tmp_path)
    assert any(each.rule.id == "invalid-value" and each.file.endswith("b.tf") for each in checked.findings)


VARIABLE = 'variable "tokens" {\n  default = "required"\n}\n'
INSTANCE = 'resource "aws_instance" "web" {\n  ami = "ami-0a"\n  metadata_options {\n    http_tokens = %s\n  }\n}\n'


def test_a_clean_answer_says_on_which_default_of_a_variable_it_rests(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(VARIABLE + "locals {\n  t = var.tokens\n}\n" + INSTANCE % "local.t")
    checked, _ = check(tmp_path)
    assert checked.findings == ()
    assert checked.rests_on == (
        f"aws_instance.web: the answer is that of the default of var.tokens in {tmp_path}/main.tf:1, and another value "
        "may change it (--var-file)",
    )


@pytest.mark.parametrize("name", ["terraform.tfvars", "x.auto.tfvars", "terraform.tfvars.json", "x.auto.tfvars.json"])
def test_a_value_that_is_given_is_no_default(name: str, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(VARIABLE + INSTANCE % "var.tokens")
    given = '{"tokens": "required"}' if name.endswith("json") else 'tokens = "required"\n'
    (tmp_path / name).write_text(given)
    assert check(tmp_path)[0].rests_on == ()
    (tmp_path / name).write_text(given.replace("required", "optional"))
    assert [each.rule.id for each in check(tmp_path)[0].findings] == ["imdsv1-allowed"]


def test_the_default_of_a_module_that_is_called_is_what_a_run_takes(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "main.tf").write_text(VARIABLE + INSTANCE % "var.tokens")
    (tmp_path / "main.tf").write_text('module "m" {\n  source = "./m"\n}\n')
    assert (check(tmp_path)[0].findings, check(tmp_path)[0].rests_on) == ((), ())


@pytest.mark.parametrize("switch", ["count = var.on ? 1 : 0", 'for_each = var.on ? toset(["a"]) : []'])
def test_what_a_default_leaves_out_is_told(switch: str, tmp_path: Path) -> None:
    body = INSTANCE.replace("{\n  ami", f"{{\n  {switch}\n  ami", 1) % '"optional"'
    (tmp_path / "main.tf").write_text('variable "on" {\n  default = false\n}\n' + body)
    checked, _ = check(tmp_path)
    assert checked.findings == ()
    assert checked.rests_on == (
        f"aws_instance.web: not made with the default of var.on in {tmp_path}/main.tf:1, and not judged; another value "
        "may make it (--var-file)",
    )


def test_what_a_scan_saw_is_no_wish(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text('resource "aws_instance" "web" {\n  ami = "ami-0a"\n}\n')
    seen = RegionSeen(TARGET, AccountDefaults.from_aws({"HttpTokens": "required"}))
    assert check(tmp_path, world=of_scan(seen, Intent()))[0].rests_on == ()
    assert len(check(tmp_path)[0].rests_on) == 1


def test_an_override_file_is_where_its_value_is_to_be_corrected(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(INSTANCE % '"required"')
    (tmp_path / "z_override.tf").write_text('resource "aws_instance" "web" {\n  ami = "ami-0b"\n}\n')
    assert check(tmp_path)[0].findings == ()
    (tmp_path / "z_override.tf").write_text(INSTANCE % '"optional"')
    (finding,) = check(tmp_path)[0].findings
    assert (finding.file, finding.line) == (str(tmp_path / "z_override.tf"), 4)


def test_an_overriding_block_replaces_the_whole_block(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(INSTANCE % '"required"')
    over = 'resource "aws_instance" "web" {\n  metadata_options {\n    http_endpoint = "enabled"\n  }\n}\n'
    (tmp_path / "override.tf").write_text(over)
    (finding,) = check(tmp_path, world=World())[0].findings
    assert finding.rule.id == "imds-unknown"
    assert "the launch says nothing" in finding.message


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ('{ a = "required" }[terraform.workspace]', "terraform.workspace, which only a run knows"),
        ('["required"][count.index]', "count.index, which only a run knows"),
    ],
)
def test_the_reason_is_the_part_that_is_unknown(expression: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(f"locals {{\n  t = {expression}\n}}\n" + INSTANCE % "local.t")
    (finding,) = check(tmp_path)[0].findings
    assert finding.message.endswith(f"because HttpTokens depends on {reason}")


def test_a_parameter_of_a_template_is_named(tmp_path: Path) -> None:
    body = '{"Type": "AWS::EC2::Instance", "Properties": {"MetadataOptions": {"HttpTokens": {"Ref": "Tokens"}}}}'
    (tmp_path / "stack.json").write_text(f'{{"Resources": {{"Web": {body}}}}}')
    (finding,) = check(tmp_path)[0].findings
    assert finding.message.endswith("because HttpTokens depends on Ref `Tokens`")


def test_what_is_no_infrastructure_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "chart.yaml").write_text("a: {{ .Values.x }}\n")
    (tmp_path / "package.json").write_text("{ // editors\n}")
    (tmp_path / "empty.tf").write_text("")
    assert check(tmp_path) == (CheckedCode((), (), (), 0), [])


def test_a_path_that_is_not_there() -> None:
    with pytest.raises(DiagnosticError, match="code-missing"):
        code_files([Path("no-such-folder")])


@pytest.mark.parametrize(
    ("use", "rules"),
    [
        ("Resources: *a29 # AWS::", []),
        ("Resources: {A: {Type: 'AWS::EC2::Instance', Properties: {UserData: *a29, MetadataOptions: *a29}}}", []),
        ("Resources: {A: {Type: 'AWS::EC2::Instance', Properties: *a29}}", []),
        (
            "apiVersion: karpenter.k8s.aws/v1\nkind: EC2NodeClass\n"
            "spec: {metadataOptions: {httpTokens: *a29, httpPutResponseHopLimit: 2}, userData: *a29}",
            ["invalid-value"],
        ),
    ],
)
def test_aliases_that_multiply_cost_nothing(use: str, rules: list[str], tmp_path: Path) -> None:
    lines = ["a0: &a0 {x: y}"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    (tmp_path / "bomb.yaml").write_text("\n".join([*lines, use]))
    checked, unread = check(tmp_path)
    assert ([each.rule.id for each in checked.findings], unread) == (rules, [])


def test_a_template_of_six_megabytes_in_bounded_time(tmp_path: Path) -> None:
    one = (
        "  R{n}:\n    Type: AWS::EC2::Instance\n    Properties:\n"
        "      UserData: {pad}\n      MetadataOptions: {{HttpTokens: {t}}}\n"
    )
    body = "".join(one.format(n=n, pad="x" * 900, t="optional" if n == 5 else "required") for n in range(6000))
    (tmp_path / "large.yaml").write_text("Resources:\n" + body)
    began = time.process_time()
    checked, unread = check(tmp_path)
    assert (len(checked.findings), checked.resources, unread) == (1, 6000, [])
    assert time.process_time() - began < 60
