"""The same as the commands, for notebooks and programs: `al.open(DIR)`, `propose`, `accept`, `status`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from al.errors import UserError
from al.tracking.server import mode
from labelling.accepting import Rules, accept, lines, take
from labelling.photos import find_photos
from labelling.project import Project
from labelling.records import Accepted, Answer, Pick
from labelling.status import Status, status_of
from labelling.tracking import track


def _silent(line: str) -> None:
    pass


class Learner:
    """The labelling of one folder of images.

    Args:
        options: parameters of a run, as on the command line.
        say: takes what the commands print.
    """

    def __init__(self, project: Project, options: Mapping[str, str], say: Callable[[str], None] = _silent):
        self.project, self.options, self.say = project, options, say

    @classmethod
    def open(
        cls,
        data: str | Path,
        state: str | Path | None = None,
        *,
        say: Callable[[str], None] = _silent,
        **options: object,
    ) -> "Learner":
        """Open the labelling of a folder, or begin it.

        Raises:
            UserError: no such folder, an unknown parameter, or a value against its rule.
        """
        from labelling.options import configuration

        given = {name: str(value) for name, value in options.items()}
        configuration(str(data), given)  # what is wrong is said before anything is made
        return cls(Project.create(Path(data), None if state is None else Path(state)), given, say)

    def propose(self, k: int = 100, *, audit: int = 0, classes: Sequence[str] | str = ()) -> list[Pick]:
        """The next images to label, the most wanted first, then those of the audit.

        Raises:
            UserError: as `propose_files`.
        """
        folder = self.propose_files(k, audit=audit, classes=classes)
        return self.project.proposal(folder).picks

    def propose_files(
        self,
        k: int = 100,
        *,
        audit: int = 0,
        labels: Path | None = None,
        classes: Sequence[str] | str = (),
        image_url: str = "data",
    ) -> Path:
        """Make a proposal; returns its folder.

        Args:
            k: images that the strategy chooses.
            audit: random images besides, which no model learns from.
            labels: a file or folder of labels to take in first.
            classes: those that there are, where the labels do not show all; a text has commas between them.
            image_url: where Label Studio finds the images.

        Raises:
            UserError: a parameter, model or image is not as it must be, or nothing is left to propose.
            HeldElsewhere: another process is at it.
        """
        from labelling.proposing import Request, propose

        if k < 0 or audit < 0 or not k + audit:
            raise UserError(f"k={k}, audit={audit}: numbers of images; use 1 or more")
        mode()  # a wrong WANDB_MODE is said before anything is done
        with self.project.locked("propose"):
            if classes:
                named = [name.strip() for name in classes.split(",")] if isinstance(classes, str) else classes
                known = sorted({*self.project.settings.classes, *filter(None, named)})
                self.project.save(self.project.settings.model_copy(update={"classes": known}))
            if labels is not None:
                for line in lines(accept(self.project, labels)):
                    self.say(line)
            proposal = propose(self.project, Request(k, audit, self.options, image_url), self.say)
            track(self.project, proposal, self.say)
            return self.project.folder_of(proposal.round)

    def accept(
        self,
        labels: Mapping[str | Path, str | int | None] | str | Path,
        *,
        replace: bool = False,
        new_classes: bool = False,
    ) -> Accepted:
        """Take labels: of a file or folder as the command does, or by path within the folder of images; None is none.

        Raises:
            UserError: the file cannot be read, or none of the images is in the folder.
            HeldElsewhere: another process is at it.
        """
        rules = Rules(replace, new_classes)
        with self.project.locked("accept"):
            if not isinstance(labels, Mapping):
                return accept(self.project, Path(labels), rules)
            said = {str(path): None if label is None else str(label) for path, label in labels.items()}
            answers = [Answer(path, (path,), label=label) for path, label in said.items()]
            return take(self.project, find_photos(self.project.data, self.project.cache), "program", answers, rules)

    def status(self, target: float | None = None) -> Status:
        """How it stands; `target` is an accuracy in percent whose labels are to be guessed."""
        return status_of(self.project, target)
