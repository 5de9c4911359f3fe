"""Capture: what databases commit becomes records on Kafka, each change exactly once.

Two readers (`postgres`, `mongo`) over pure decoders and encoders; one publisher that puts a group
of whole database transactions and the progress record into one Kafka transaction. A capture
keeps no state but that record and what the database keeps for it (slot, oplog), so it is
crash-only: whatever fails raises, the process ends, and the next one goes on from the record.

Errors:

    CaptureError(Exception)
    ├── CaptureConfigError     something a user set up wrongly: found, expected, mend
    ├── CaptureGapError        changes were lost before they could be read; never skipped silently
    ├── SourceLostError        the connection to the database broke; a restart goes on
    ├── SourceFormatError      bytes of the source that its protocol does not allow
    │   └── ProgressFormatError  a progress record that this version cannot read
    ├── SpillError             transactions in progress do not fit on the disk; nothing is lost
    └── PublishError           Kafka did not take the records; a restart goes on
        ├── FencedError        a newer capture of the same source has taken over
        └── RecordTooLargeError  a record is larger than Kafka is set to take
"""
