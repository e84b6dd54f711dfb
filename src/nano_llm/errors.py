"""The errors that a user may see; everything else is a bug.

    NanoLLMError
    ├── ConfigError        a setting is unknown, ill-typed or out of range (exit status 2)
    ├── RequestError       what was asked for cannot be done, whatever the state of the disk (exit status 2)
    ├── DataError          a corpus or a prepared folder is missing, unreadable or unfit
    ├── CheckpointError    a checkpoint is missing, unreadable or of an unknown format
    │   └── DamagedCheckpointError  it is not as it was written
    ├── OutputError        a result cannot be written where it was asked for
    │   └── FullDiskError  there is no space left for it
    ├── ServingError       a server cannot listen, cannot be reached or refuses
    ├── DivergedError      training met figures that are not finite, a spike, or a loss scale of nothing
    └── GroupError         another process of the same job has failed or gone

A message says what was given, what was expected, where it came from and what to do.
"""


class NanoLLMError(Exception):
    """Base of all errors that are the user's to mend."""

    exit_status = 1


class ConfigError(NanoLLMError):
    """A setting is unknown, ill-typed, out of range or at odds with another one."""

    exit_status = 2


class RequestError(NanoLLMError):
    """What was asked for cannot be done, whatever the state of the disk."""

    exit_status = 2


class DataError(NanoLLMError):
    """A corpus or a prepared data folder is missing, unreadable or unfit for use."""


class CheckpointError(NanoLLMError):
    """A checkpoint is missing, unreadable or of a format that this version does not know."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not as it was written; an earlier one may do in its place."""


class OutputError(NanoLLMError):
    """A result cannot be written where it was asked for."""


class FullDiskError(OutputError):
    """A result cannot be written because there is no space left for it."""


class ServingError(NanoLLMError):
    """A server cannot listen, cannot be reached, or refuses what it was asked for."""


class DivergedError(NanoLLMError):
    """Training met what no weights come back from, and was not told to leave it out.

    A loss, a gradient norm, a weight or a validation that is not finite; a spike; a loss scale that has collapsed.
    """


class GroupError(NanoLLMError):
    """Another process of a job of several has failed or gone, or cannot be reached."""
