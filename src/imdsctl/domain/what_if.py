"""What would every launch get if something were different? A small language, and answers from the one precedence rule.

account default optional in eu-west-1
account default hop-limit 2 and account default required for 111122223333
enforce on in eu-west-1; template lt-0123456789abcdef0 required; image ami-0123456789abcdef0 v2
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.exposure import Exposure, Verdict, launch_exposure
from imdsctl.domain.observations import Account, LaunchSource, RegionSeen, Scan, Target
from imdsctl.domain.options import (
    DEFAULTS_AWS_NAMES,
    HOP_LIMIT_NO_PREFERENCE,
    NO_PREFERENCE,
    AccountDefaults,
    InvalidOption,
    MetadataOptions,
)
from imdsctl.domain.planner_launches import DEFAULT, LATEST, Launcher, Launches, State
from imdsctl.domain.precedence import Resolution

GRAMMAR = """\
sentence  clause { ("and" | ";" | ",") clause } [ "in" REGION ] [ "for" ACCOUNT ]
clause    "account default" setting | "template" ID-OR-NAME setting | "image" AMI "v2" | "enforce" ("on" | "off")
setting   "required" | "optional" | "no-preference" | OPTION VALUE
OPTION    tokens | hop-limit | endpoint | ipv6 (templates only) | tags
VALUE     required, optional | 1 to 64 | enabled, disabled | no-preference
A name with a space in it stands in quotes: for 'Shared Services'."""
_OPTIONS = {
    "tokens": "HttpTokens",
    "hop-limit": "HttpPutResponseHopLimit",
    "endpoint": "HttpEndpoint",
    "ipv6": "HttpProtocolIpv6",
    "tags": "InstanceMetadataTags",
}
_ALIASES = {aws.lower(): aws for aws in _OPTIONS.values()} | {
    "http-tokens": "HttpTokens",
    "http-endpoint": "HttpEndpoint",
}
_TOKENS = ("required", "optional", NO_PREFERENCE)
_WORD = re.compile(r"""[;,]|"[^"]*"|'[^']*'|[^\s;,]+""")
NOTHING = "a launch that says nothing"


@dataclass(frozen=True, slots=True)
class Question:
    """What is different, and where. AWS's names to AWS's values."""

    sentence: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    templates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By the template's id or name; it is what `$Default` and `$Latest` would say. `None` unsets an option."""
    images: frozenset[str] = frozenset()
    region: str | None = None
    account: str | None = None
    """An account's id or name."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What one launch source gets now, and what it would get."""

    target: Target
    title: str
    now: Exposure
    then: Exposure
    now_options: MetadataOptions
    then_options: MetadataOptions
    fails_now: bool
    fails_then: bool

    @property
    def changes(self) -> bool:
        """True when anything about it would be different."""
        return (self.now, self.now_options, self.fails_now) != (self.then, self.then_options, self.fails_then)


@dataclass(frozen=True, slots=True)
class Answer:
    """Every launch source of the targets that the question is about, and what could not be told."""

    question: Question
    launches: tuple[Launch, ...]
    targets: int
    unknown: tuple[str, ...] = ()

    @property
    def opened(self) -> tuple[Launch, ...]:
        """Launches that would allow IMDSv1 and do not now."""
        return tuple(each for each in self.launches if each.then.verdict is Verdict.EXPOSED is not each.now.verdict)

    @property
    def closed(self) -> tuple[Launch, ...]:
        """Launches that would no longer allow IMDSv1."""
        return tuple(each for each in self.launches if each.now.verdict is Verdict.EXPOSED is not each.then.verdict)

    @property
    def failing(self) -> tuple[Launch, ...]:
        """Launches that would fail and do not now."""
        return tuple(each for each in self.launches if each.fails_then and not each.fails_now)


def parse_question(sentence: str) -> Question:
    """A sentence to a question. Raises DiagnosticError `what-if-invalid` (exit code 2) with the grammar."""
    return _Parser(sentence).question()


class _Parser:
    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        found: list[str] = _WORD.findall(sentence)
        self.words = [word.strip(word[0]) if word[0] in "'\"" else word for word in found]
        self.at = 0
        self.defaults: dict[str, Any] = {}
        self.templates: dict[str, dict[str, Any]] = {}
        self.images: set[str] = set()
        self.where: dict[str, str] = {}

    def question(self) -> Question:
        self.clause()
        while self.at < len(self.words):
            word = self.next("`and`, `in` or `for`")
            if word.lower() in ("and", ";", ","):
                self.clause()
            elif word.lower() in ("in", "for"):
                self.place(word.lower())
            else:
                raise self.wrong(word, ("and", "in", "for"))
        return Question(
            self.sentence,
            self.defaults,
            self.templates,
            frozenset(self.images),
            self.where.get("in"),
            self.where.get("for"),
        )

    def place(self, word: str) -> None:
        if word in self.where:
            raise self.problem(f"`{word}` is there twice")
        self.where[word] = self.next("a Region" if word == "in" else "an account")

    def clause(self) -> None:
        word = self.next("`account default`, `template`, `image` or `enforce`").lower()
        if word == "account":
            if self.next("`default`").lower() != "default":
                raise self.wrong(self.words[self.at - 1], ("default",))
            name, value = self.setting()
            if name not in DEFAULTS_AWS_NAMES.values():
                raise self.problem(f"a Region default has no {name}")
            if value is None:
                value = HOP_LIMIT_NO_PREFERENCE if name == "HttpPutResponseHopLimit" else NO_PREFERENCE
            self.checked(AccountDefaults, {name: value})
            self.said(self.defaults, name, value, "the account default")
        elif word == "template":
            template = self.next("a launch template")
            name, value = self.setting()
            self.checked(MetadataOptions, {name: value})
            self.said(self.templates.setdefault(template, {}), name, value, f"template {template}")
        elif word == "image":
            image = self.next("an image")
            if (said := self.next("`v2`").lower()) not in ("v2", "v2.0"):
                raise self.wrong(said, ("v2",))
            self.images.add(image)
        elif word == "enforce":
            said = self.next("`on` or `off`").lower()
            if said not in ("on", "off"):
                raise self.wrong(said, ("on", "off"))
            self.said(self.defaults, "HttpTokensEnforced", "enabled" if said == "on" else "disabled", "the account")
        else:
            raise self.wrong(word, ("account", "template", "image", "enforce"))

    def said(self, about: dict[str, Any], name: str, value: Any, what: str) -> None:
        if about.setdefault(name, value) != value:
            raise self.problem(f"it says two things about {name} of {what}: ask them one by one")

    def setting(self) -> tuple[str, Any]:
        """An option's AWS name and the value; None for no preference."""
        word = self.next("a value such as `required`, or an option such as `hop-limit`")
        if word.lower() in _TOKENS:
            return "HttpTokens", None if word.lower() == NO_PREFERENCE else word.lower()
        name = _OPTIONS.get(word.lower()) or _ALIASES.get(word.lower())
        if name is None:
            raise self.wrong(word, (*_TOKENS, *_OPTIONS))
        value = self.next(f"a value for {word}").lower()
        if value == NO_PREFERENCE:
            return name, None
        return name, int(value) if value.isdecimal() else value

    def checked(self, kind: Any, values: dict[str, Any]) -> None:
        try:
            kind.from_aws(values)
        except InvalidOption as error:
            raise self.problem(str(error)) from None

    def next(self, wanted: str) -> str:
        if self.at == len(self.words):
            raise self.problem(f"it ends where {wanted} should come")
        self.at += 1
        return self.words[self.at - 1]

    def wrong(self, word: str, known: tuple[str, ...]) -> DiagnosticError:
        close = get_close_matches(word.lower(), known, 1)
        meant = (
            f": did you mean `{close[0]}`?" if close else f": {' or '.join(f'`{each}`' for each in known)} fits here"
        )
        return self.problem(f"`{word}` is not understood{meant}")

    def problem(self, why: str) -> DiagnosticError:
        hint = f"the grammar is\n{GRAMMAR}"
        return DiagnosticError(Diagnostic("what-if-invalid", why, self.sentence, hint), exit_code=2)


def answer(scan: Scan, question: Question) -> Answer:
    """Judge every launch source of a scan as it is and as it would be. Raises DiagnosticError `what-if-nothing` when
    the scan has nothing that the question is about."""
    accounts = {account.account_id: account for account in scan.accounts}
    launches: list[Launch] = []
    unknown: list[str] = []
    targets = 0
    met: set[str] = set()
    for region in scan.regions:
        if _asked(question, region.target, accounts.get(region.target.account_id)):
            targets += 1
            if region.defaults is None:
                unknown.append(f"{region.target}: the Region default was not read")
                continue
            here = _Here(region, question)
            launches += here.launches_of(unknown)
            met |= here.met
    missing = sorted({*question.templates, *question.images} - met)
    if not targets or missing:
        hint = "correct the name; `imdsctl scan` shows what there is"
        found = [f"the scan saw no `{each}` there" for each in missing] if targets else list(_nowhere(scan, question))
        raise DiagnosticError(
            [Diagnostic("what-if-nothing", each, question.sentence, hint) for each in found], exit_code=2
        )
    return Answer(question, tuple(launches), targets, tuple(unknown))


def _nowhere(scan: Scan, question: Question) -> Iterator[str]:
    """Why no target of the scan is asked about."""
    regions = {region.target.region for region in scan.regions}
    names = {name for each in scan.accounts for name in (each.account_id, each.name) if name}
    for asked, known, what in ((question.region, regions, "Region"), (question.account, names, "account")):
        if asked is not None and asked not in known:
            close = get_close_matches(asked.lower(), known, 1)
            yield f"the scan read no {what} `{asked}`" + (f": did you mean `{close[0]}`?" if close else "")
    if question.region in (None, *regions) and question.account in (None, *names):
        yield f"the scan read nothing in {question.region or 'any Region'} of {question.account or 'any account'}"


def _asked(question: Question, target: Target, account: Account | None) -> bool:
    name = account.name if account else ""
    return question.region in (None, target.region) and question.account in (None, target.account_id, name)


class _Here:
    """One target, as it is and as it would be."""

    def __init__(self, region: RegionSeen, question: Question) -> None:
        self.region, self.launches = region, Launches(region)
        defaults = region.defaults or AccountDefaults()
        said: dict[tuple[str, str], MetadataOptions] = {}
        self.met = {each for each in question.images if self.launches.image(each)}
        for name, values in question.templates.items():
            template_id = self.launches.template_id(LaunchSource(name if name.startswith("lt-") else None, name))
            for version in self.launches.templates.get(template_id or "", ()):
                self.met.add(name)
                asked = {**version.options.to_aws(), **values}
                options = MetadataOptions.from_aws({key: value for key, value in asked.items() if value is not None})
                for label, is_it in ((DEFAULT, version.is_default), (LATEST, version.is_latest)):
                    if is_it:
                        said[version.template_id, label] = options
        self.now = State(defaults)
        self.then = State(defaults.updated(question.defaults), said, frozenset(self.met & question.images))

    def launches_of(self, unknown: list[str]) -> Iterator[Launch]:
        yield from self._one(Launcher(NOTHING, LaunchSource()), unknown)
        for launcher in self.launches.all():
            yield from self._one(launcher, unknown)
        for image in self.region.images:
            if image.owned and image.found:
                title = f"a launch from image {image.image_id} that says nothing else"
                yield from self._one(Launcher(title, LaunchSource(image_id=image.image_id)), unknown)
        for configuration in self.region.configurations:
            title = f"launch configuration {configuration.name}"
            yield from self._one(Launcher(title, LaunchSource(configuration=configuration.name)), unknown)

    def _one(self, launcher: Launcher, unknown: list[str]) -> Iterator[Launch]:
        now, then = (self.launches.resolution(launcher.source, state) for state in (self.now, self.then))
        if now is None or then is None:
            unknown.append(f"{self.region.target}: {launcher.title}: the scan did not see what it launches")
            return
        yield Launch(self.region.target, launcher.title, *_judged(now, then))


def _judged(now: Resolution, then: Resolution) -> Any:
    exposures = launch_exposure(now), launch_exposure(then)
    return (*exposures, now.options, then.options, now.refused, then.refused)
