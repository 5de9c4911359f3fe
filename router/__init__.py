"""From events to runs: which listeners an event is for, and carrying each of them out.

Pure: definitions and the files they come from, patterns and `where`, the matching index, the
ledger of what is finished, what a run leaves on Kafka, what is due when. Shells: the feed of
definitions, the consumer, the group commit, the scheduler, the built-in actions. The sandbox is
given to the router; it never knows more of it than `events.run`.

Errors:

    RouterError(Exception)
    ├── DefinitionError        a definition that means nothing, with its place and the mend
    │   ├── WhereError         a filter that means nothing
    │   └── CodeSyntaxError    code that this Python cannot read; a newer one may
    ├── ScheduleError          a record of the schedules that means nothing
    ├── StateError             a record of listeners' state that means nothing
    └── RoutingStoppedError    Kafka failed or another router took over; start again
"""
