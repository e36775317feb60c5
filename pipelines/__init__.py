"""The commands: each parses its arguments, makes one library call and sets the exit code."""

from pipelines.interrupt import leave_quietly_while_importing
from pipelines.output import make_streams_safe

if leave_quietly_while_importing():
    make_streams_safe()
