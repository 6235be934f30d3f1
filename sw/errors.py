"""Errors that a user's model, data, board, tools or results can cause; the command line prints them as one sentence."""


class LutloomError(Exception):
    """Something is wrong with what the user gave; the message is one sentence that names it and the way out."""


class ModelError(LutloomError):
    """The model file cannot be read, or holds something that is not supported."""


class DataError(LutloomError):
    """The data do not fit the model, or lack something."""


class BoardError(LutloomError):
    """The board is unknown, or its file is not a board."""


class FitError(LutloomError):
    """The network does not fit the chip, or not at the rate that was asked for."""


class ToolError(LutloomError):
    """An outside tool is missing or failed."""


class BuildError(LutloomError):
    """A build folder is not one, is of another version, or holds results that are wrong."""
