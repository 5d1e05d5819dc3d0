"""The report of an acceptance that people sign, as one HTML file that needs nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import __version__, units
from bench.acceptance.dossier import Dossier
from bench.acceptance.model import NODE, WORST_FIRST, Finding, Judged, Outcome
from bench.message import Message, say
from bench.report import acceptance as figures
from bench.report import acceptance_pictures as pictures
from bench.report import criteria as words
from bench.report import html
from bench.report.language import Language
from bench.report.seal import WHAT_IT_PROVES
from bench.seal.statement import RunSeal
from bench.seal.verify import Link

# What each verdict says, for who reads one for the first time.
_MEANINGS: Mapping[Outcome, Message] = {
    "PASS": say("It is shown that every limit is met."),
    "FAIL": say("It is shown that a limit is missed, that an answer was wrong, or that a device is missing."),
    "INCONCLUSIVE": say("Nothing is shown to be missed, and not everything is shown to be met."),
    "ERROR": say("Something that a criterion needs failed, so the node could not be judged."),
}
_ENVIRONMENT: Sequence[tuple[str, Message]] = (
    ("device_name", say("model")),
    ("device_memory_bytes", say("device memory")),
    ("driver", say("NVIDIA driver")),
    ("vbios", say("firmware")),
    ("ecc_mode", say("ECC")),
    ("power_limit_w", say("power limit")),
    ("cpu_model", say("CPU model")),
    ("cpu_cores", say("physical cores")),
    ("memory_bytes", say("main memory")),
    ("virtualization", say("virtualization")),
    ("os", say("operating system")),
    ("os_kernel", say("kernel of the system")),
    ("container", say("container")),
    ("cuda", say("CUDA")),
    ("torch", say("PyTorch")),
    ("cupy", say("CuPy")),
    ("numpy", say("NumPy")),
    ("python", say("Python")),
)
_SIGNERS = (say("For the supplier"), say("For the buyer"), say("For the inspector"))


@dataclass(frozen=True)
class Line:
    """A criterion in the table of all."""

    id: str
    device: str
    observed: str
    interval: str
    limit: str
    outcome: Outcome


@dataclass(frozen=True)
class Group:
    """Devices of which the same is said."""

    outcome: Outcome
    devices: str
    words: str


@dataclass(frozen=True)
class Section:
    """A criterion with all its devices."""

    line: Line
    sentence: str
    source: str
    note: str
    picture: html.Picture | None
    tiles: Sequence[tuple[str, str, Outcome]]  # devices, their value, outcome, where there is no picture
    groups: Sequence[Group]
    decides: str  # what would decide it, where it is open


def render(dossier: Dossier, language: Language) -> str:
    """The page. The same dossier makes the same bytes.

    Raises:
        UsageError: Jinja2, Babel or matplotlib is not installed.
    """
    return html.render("acceptance.html.j2", {"lang": language.code, **_content(dossier, language)})


def _content(dossier: Dossier, language: Language) -> Mapping[str, Any]:
    verdict, plan = dossier.verdict, dossier.plan
    roofline = pictures.roofline(dossier, language)
    return {
        "_": language.say,
        "version": __version__,
        "dossier": dossier,
        "run_mark": re.sub("[^0-9A-Za-z-]", "", plan.run_id),  # within a style sheet, where nothing is escaped
        "outcome": verdict.outcome,
        "meaning": language.text(_MEANINGS[verdict.outcome]),
        "outcome_words": {one: language.text(figures.OUTCOMES[one]) for one in WORST_FIRST},
        "simulated": language.text(figures.SIMULATED) if verdict.simulated else "",
        "counts": _counts(dossier, language),
        "reasons": figures.reasons(verdict, language),
        "started_at": language.moment(plan.started_at),
        "devices": _devices(dossier),
        "confidence": language.say("{percent} %", percent=language.number(f"{dossier.criteria.confidence * 100:g}")),
        "looks": words.listed(dossier.criteria.looks, language),
        "sections": [_section(one, dossier, language) for one in verdict.criteria],
        "state": pictures.state(dossier, language),
        "roofline": roofline,
        "environment": _environment(dossier, language),
        "inventory": [(one.label, one.name or "–", one.uuid or "–") for one in plan.devices],
        "facts": _facts(dossier, language),
        "commands": _commands(dossier, language),
        "seals": [_seal(link, language) for link in dossier.seal.links] if dossier.seal else [],
        "what_it_proves": language.text(WHAT_IT_PROVES),
        "signers": [language.text(one) for one in _SIGNERS],
    }


def _counts(dossier: Dossier, language: Language) -> str:
    counts = Counter(one.outcome for one in dossier.verdict.criteria)
    return ", ".join(f"{counts[one]} {language.text(figures.OUTCOMES[one])}" for one in WORST_FIRST if counts[one])


def _devices(dossier: Dossier) -> str:
    """``8 × NVIDIA H100 80GB HBM3``"""
    counts = Counter(one.name or one.label for one in dossier.plan.devices)
    return ", ".join(f"{count} × {name}" for name, count in counts.items()) or "–"


def _section(one: Judged, dossier: Dossier, language: Language) -> Section:
    criterion, worst = one.criterion, one.worst
    picture = pictures.limit_picture(one, language)
    line = Line(
        criterion.id,
        names([worst.device], language),
        words.value_words(criterion, worst.observed, language),
        figures.interval_words(criterion, worst, language),
        words.limit(criterion, language) if criterion.limit.stated else "–",
        one.outcome,
    )
    return Section(
        line=line,
        sentence=words.sentence(criterion, dossier.criteria.device, language),
        source=criterion.source,
        note=criterion.note,
        picture=picture,
        tiles=[] if picture else _tiles(one, language),
        groups=_groups(one, language),
        decides=_decides(worst, language) if one.outcome == "INCONCLUSIVE" else "",
    )


def _tiles(one: Judged, language: Language) -> list[tuple[str, str, Outcome]]:
    found: dict[tuple[str, Outcome], list[str]] = {}
    for each in one.findings:
        value = words.value_words(one.criterion, each.observed, language)
        found.setdefault((value, each.outcome), []).append(each.device)
    return [(names(devices, language), value, outcome) for (value, outcome), devices in found.items()]


def _groups(one: Judged, language: Language) -> list[Group]:
    """The worst first; devices of which the same is said together."""
    found: dict[tuple[Outcome, str], list[str]] = {}
    for each in sorted(one.findings, key=lambda finding: WORST_FIRST.index(finding.outcome)):
        replicates = language.say("{n} replicates", n=each.n) if each.interval else ""
        said = "; ".join(filter(None, (language.text(each.words), replicates)))
        found.setdefault((each.outcome, said), []).append(each.device)
    return [Group(outcome, names(devices, language), said) for (outcome, said), devices in found.items()]


def names(devices: Sequence[str], language: Language) -> str:
    """``cuda:0–4, cuda:7``"""
    if list(devices) == [NODE]:
        return language.say("node")
    runs: list[list[str]] = []
    for device in devices:
        kind, _, index = device.partition(":")
        before = runs[-1][-1].partition(":") if runs else ("", "", "")
        if index.isdecimal() and before[2].isdecimal() and (kind, int(index) - 1) == (before[0], int(before[2])):
            runs[-1].append(device)
        else:
            runs.append([device])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]}–{run[-1].partition(':')[2]}" for run in runs)


def _decides(worst: Finding, language: Language) -> str:
    """What would decide a criterion that is open."""
    if worst.wants:
        return language.say(
            "{n} more fit replicates bring its next look: vnbench accept takes them by itself, if its budget allows.",
            n=worst.wants,
        )
    if worst.interval is not None:
        return language.say(
            "All looks that were planned are spent: the figure lies too near to its limit, or scatters too much. "
            "Quieten or repair the node and accept it anew, or agree on another limit."
        )
    return language.say("Remove the obstacle that is named here, and measure again.")


def _environment(dossier: Dossier, language: Language) -> list[tuple[str, str]]:
    found = []
    for column, label in _ENVIRONMENT:
        values = dict.fromkeys(row[column] for row in dossier.rows if row[column] is not None)
        if values:
            shown = sorted(_environment_value(column, value, language) for value in values)
            found.append((language.text(label), ", ".join(dict.fromkeys(shown))))
    return found


def _environment_value(column: str, value: Any, language: Language) -> str:
    if isinstance(value, bool):
        return language.say("yes") if value else language.say("no")
    if column.endswith("_bytes"):
        number, unit = units.show_bytes(value).split(" ")
        return f"{language.number(number)} {unit}"
    if column.endswith("_w"):
        return f"{language.number(f'{value:g}')} W"
    return str(value)


def _facts(dossier: Dossier, language: Language) -> list[tuple[str, str]]:
    """What tells this run, this result and these criteria from all others."""
    plan = dossier.plan
    return [
        (language.say("run"), plan.run_id),
        (language.say("node"), plan.node),
        (language.say("began at"), language.moment(plan.started_at)),
        (language.say("measured with"), f"vnbench {plan.vnbench_version}" + _commit(plan.source_commit)),
        (language.say("nonce of the inspector"), plan.tags.get("nonce", "–")),
        (language.say("result, SHA-256"), dossier.result_sha256),
        (language.say("criteria, SHA-256"), dossier.criteria.sha256),
    ]


def _commit(commit: str | None) -> str:
    return f" ({commit})" if commit else ""


def _commands(dossier: Dossier, language: Language) -> list[tuple[str, str]]:
    name, result = dossier.criteria_name, dossier.result_name
    found = [
        (
            language.say("the same verdict, byte for byte, from the two files:"),
            f"vnbench judge {result} --criteria {name} --json",
        ),
        (language.say("the hashes of the two files:"), f"sha256sum {result} {dossier.criteria.path.name}"),
        (language.say("what the criteria demand, and who says so:"), f"vnbench criteria explain {name}"),
        (language.say("a new acceptance of the same node:"), f"vnbench accept --criteria {name}"),
    ]
    if dossier.seal:
        found.insert(
            0, (language.say("the seal and the verdict in the bundle:"), "vnbench verify BUNDLE --key NAME.pub")
        )
    return found


def _seal(link: Link, language: Language) -> Mapping[str, str]:
    said = link.statement.predicate
    kind = say("sealed the run") if isinstance(said, RunSeal) else say("countersigned the bundle")
    return {
        "who": link.signer.words,
        "did": language.text(kind),
        "when": language.moment(said.sealed_at),
        "key": link.signer.key.id,
        "files": str(len(link.statement.subjects)),
    }
