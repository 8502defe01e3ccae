"""What the lab says when it cannot do what was asked: one sentence, what is wrong and what is allowed."""


class LabError(ValueError):
    """Something asked of the lab is impossible; the message is one sentence for the person who asked."""


class UnknownName(LabError):
    """A name that no table of the lab holds."""


class BadPicture(LabError):
    """A file that is not a picture the lab accepts."""


class BadCheckpoint(LabError):
    """A folder that is not a checkpoint the lab accepts."""


class Unavailable(LabError):
    """Something that needs a download, a device or a file that is not there."""
