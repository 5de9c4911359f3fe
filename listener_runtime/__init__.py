"""The sandbox: a stranger's Python, run where it can reach nothing but what it is given.

The boundary is a Deno process without any permission, running Pyodide; each run starts in an
interpreter put back to a snapshot (docs/design.md, section 5). Pure: the frames between us and
the process, what a run may answer with, which addresses may be called. Shells: one process, the
pool of them, the host calls behind `g`. Whatever comes out of a process is treated as written by
the guest; authority comes from the process a frame came from, never from the frame.

Errors:

    SandboxError(Exception)
    ├── FrameError      bytes on the pipe that are no frame of the protocol; the process is killed
    ├── ImageError      the sandbox image is missing, damaged or cannot be built
    ├── WheelError      a file that is no wheel, or none that is let into an image
    └── HostCallError   a host call that is refused or failed; the guest sees its message
        ├── NotReachedError  a server that took no connection, so that nothing was sent
        └── AnswerError      an answer that is too large, or packed in an unknown way
"""
