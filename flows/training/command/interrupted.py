"""The end of a run that was asked to stop."""


class Interrupted(BaseException):
    """The run stopped because it was asked to; the message says how to continue. (No failure, so no Exception.)"""
