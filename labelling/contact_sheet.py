"""The picks of one round to look at: one HTML file that opens from disk, images inlined, no scripts."""

from pathlib import Path

from labelling.pages import render
from labelling.records import Pick, Proposal
from labelling.small_copies import small_copy

THUMBNAIL = 200
"""Pixels of the longer side."""
MOST = 500
"""Picks that have a picture: more would make a file that browsers open slowly."""


def contact_sheet(data: Path, proposal: Proposal) -> str:
    """The page; every text in it is escaped, and it may load nothing."""
    chosen = [pick for pick in proposal.picks if not pick.audit]
    audit = [pick for pick in proposal.picks if pick.audit]

    def picture(pick: Pick) -> str:
        return small_copy(data / pick.path, THUMBNAIL)

    return render("contact_sheet.html", proposal=proposal, chosen=chosen, audit=audit, most=MOST, picture=picture)
