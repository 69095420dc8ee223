"""The first sentence of a setting's answer: what to use and what it saves, or that it cannot be told."""

from sweeps.report import saving_words
from sweeps.report.analysis import Analysis
from sweeps.report.inference import HeadlineKind, Verdict
from sweeps.report.label_savings import Saving
from sweeps.report.more_seeds import open_comparison
from sweeps.report.target_words import told_target
from sweeps.report.verdict_words import end_points, last_labels, points, the_reference, where
from sweeps.report.wording import called, join, number


def headline(analysis: Analysis) -> str:
    """The sentence for one setting, with no more certainty than its seeds give."""
    verdict = analysis.verdict
    kind, name = verdict.headline.kind, verdict.headline.strategy
    reference = the_reference(verdict) if verdict.reference_tested else None
    match kind:
        case HeadlineKind.NOTHING:
            return "nothing to compare yet."
        case HeadlineKind.FIRST_LABELS:
            return f"the first labels alone reach {_first_target(verdict)}: no strategy chose anything before that."
        case HeadlineKind.HINT:
            lead = f"{called(name)} leads so far{_gain(analysis, name)}"
            return f"{lead}, which {number(verdict.seeds, 'seed')} cannot prove{_but(analysis, name)}."
        case HeadlineKind.BEST:
            if reference is None:
                return f"{name} is ahead of every other strategy{_untested(verdict)}{_but(analysis, name)}."
            beaten = f"every other strategy, {reference}" if len(verdict.estimates) > 2 else reference
            return f"use {name}: it beats {beaten}{_gain(analysis, name)}{_but(analysis, name)}."
        case HeadlineKind.AHEAD if reference is None:
            ahead = f"{name} has the highest mean and is ahead of {join(verdict.worse_than_leader)}"
            return f"{ahead}{_untested(verdict)}{_but(analysis, name)}."
        case HeadlineKind.AHEAD:
            alike = f"; {_alike(verdict)}" if _rivals(verdict) else ""
            return f"use {name}: it beats {reference}{_gain(analysis, name)}{alike}{_but(analysis, name)}."
        case HeadlineKind.SOME_AHEAD:
            beat = "beats" if len(verdict.ahead) == 1 else "beat"
            return f"choosing pays: {join(verdict.ahead)} {beat} {reference}; which strategy is best cannot be told."
        case HeadlineKind.BEHIND:
            return _behind(verdict)
        case HeadlineKind.NEGLIGIBLE:
            return _negligible(analysis, reference)
    if verdict.worse_than_leader:
        ahead = f"{called(verdict.leader)} is ahead of {join(verdict.worse_than_leader)}"
        return f"no strategy can be told apart from {reference} yet; {ahead}."
    return f"nothing can be told apart yet{_looks(analysis)}."


def _behind(verdict: Verdict) -> str:
    """Not to choose is advised only where nothing is left open, and nothing looks better by however little."""
    reference = the_reference(verdict)
    fall = f"{join(verdict.behind)} {'falls' if len(verdict.behind) == 1 else 'fall'} behind"
    if left := undecided(verdict):
        return f"no strategy is ahead of {reference}: {fall} it, and {join(left)} cannot be told apart from it."
    if may_pay(verdict):
        alike = [found.a for found in verdict.comparisons.with_control if found.a not in verdict.behind]
        within = (
            f"{join(alike)} {'is' if len(alike) == 1 else 'are'} within {verdict.margin:g} point of it{where(verdict)}"
        )
        return f"no strategy is ahead of {reference}: {fall} it, and {within}{_otherwise(verdict)}."
    return f"do not choose: no strategy is ahead of {reference}, and {fall} it{_otherwise(verdict)}."


def may_pay(verdict: Verdict) -> bool:
    """Whether choosing may pay though some strategies are behind the reference."""
    return verdict.leader != verdict.reference or bool(undecided(verdict))


def undecided(verdict: Verdict) -> list[str]:
    """Strategies that may be ahead of the reference or behind it."""
    return [found.a for found in verdict.comparisons.with_control if not found.settled]


def _negligible(analysis: Analysis, reference: str | None) -> str:
    """A difference too small to matter in points can be many labels: where a curve is flat."""
    verdict = analysis.verdict
    within = f"within {verdict.margin:g} point of {reference or 'each other'}{where(verdict)}"
    if reference is None:
        lacking = _untested(verdict) if verdict.reference else ""
        return f"which strategy makes no difference: they are {within}{lacking}."
    if saving := small_lead(analysis):
        saves = saving_words.in_a_sentence(saving)
        but = _but(analysis, saving.strategy)
        return f"use {saving.strategy} to save labels: it {saves}, though in accuracy every strategy is {within}{but}."
    return f"choosing makes no difference: every strategy is {within}{_otherwise(verdict)}."


def small_lead(analysis: Analysis) -> Saving | None:
    """What the leader certainly saves, where all are within the margin of the reference."""
    verdict = analysis.verdict
    if verdict.headline.kind is not HeadlineKind.NEGLIGIBLE or verdict.leader not in verdict.ahead:
        return None
    found = analysis.saving(verdict.leader)
    return found if found and found.low >= saving_words.NOTHING else None


def _untested(verdict: Verdict) -> str:
    if verdict.reference_tested:
        return ""
    if verdict.reference is None:
        return "; whether it beats random sampling cannot be told"
    return f"; {the_reference(verdict)} has too few split seeds in common with the strategies to be compared with"


def _but(analysis: Analysis, name: str) -> str:
    """What a reader who acts on the first sentence must know besides."""
    verdict, parts = analysis.verdict, ""
    if name in verdict.contradicted_at_the_end:
        end = verdict.contradicted_at_the_end[name]
        parts += f"; but with {last_labels(verdict)} labels, where the curves end, it is {end_points(end)}"
        parts += f" {the_reference(verdict)}"
    if fields := analysis.unlike(name):
        parts += f"; but it was run with another {join(fields)}, which may be what makes the difference"
    return parts


def _otherwise(verdict: Verdict) -> str:
    return "; but not where the curves end, see below" if verdict.contradicted_at_the_end else ""


def _gain(analysis: Analysis, name: str) -> str:
    """` by 2.1 points ... and saves 24 % of the labels ...`, as far as it is known."""
    verdict = analysis.verdict
    found = verdict.comparisons.of(name, verdict.reference) if verdict.reference else None
    text = f" by {points(found, verdict)}" if found else ""
    saving = analysis.saving(name)
    if saving is None:
        return text
    return f"{text} {'and' if saving_words.pays(saving) else 'but'} {saving_words.in_a_sentence(saving)}"


def _looks(analysis: Analysis) -> str:
    verdict = analysis.verdict
    found = open_comparison(verdict)
    if verdict.reference and not verdict.reference_tested:
        return _untested(verdict)
    if verdict.reference and verdict.leader == verdict.reference:
        return f"; no strategy looks ahead of {the_reference(verdict)}"
    if found is None or found.estimate <= 0:  # the mean over other seeds than both have may lead all the same
        return ""
    text = f"; {called(found.a)} looks ahead of {called(found.b)} by {points(found, verdict)}"
    more = found.more.clear if found.more else None
    return f"{text}, and {number(more, 'more seed')} would settle it" if more else text


def _rivals(verdict: Verdict) -> list[str]:
    return [name for name in verdict.not_told_apart if name != verdict.reference]


def _alike(verdict: Verdict) -> str:
    return f"{join(_rivals(verdict))} cannot be told apart from it"


def _first_target(verdict: Verdict) -> str:
    return told_target(next(result for result in verdict.targets if result.by_first_labels))
