"""The files of a proposal."""

import io

from labelling.project import Project
from labelling.proposal_files import write_proposal
from labelling.records import Proposal


def test_are_utf8_in_every_locale(folder, truth, monkeypatch):
    """Else `accept` could not read the table again, and browsers would show other letters than the page has."""
    project = Project.create(folder)
    kept = {"strategy": "random", "config": {}, "trained_on": 0, "labels": 0, "images": 0, "picks": []}
    monkeypatch.setattr(io, "text_encoding", lambda encoding, *_: encoding or "ascii")
    made = write_proposal(project, Proposal(round=0, classes=["Käse", "猫"], **kept), None, "data")
    assert '"猫"' in (made / "label_studio.xml").read_bytes().decode()
    assert project.proposal(made).classes == ["Käse", "猫"]
