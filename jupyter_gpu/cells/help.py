"""What ``%remote?`` and ``%%remote?`` show."""

from __future__ import annotations

HELP = """
Run a cell on a GPU elsewhere; the variables follow by themselves.

    %%remote gpu=H100
    model.fit(X, y)                  # X, y and model went along; the fitted model is back

The cell runs in another process, container or machine with that hardware. Outputs stream in as if it
had run here. What the cell names goes along, with all that its functions use; what it changed or made
comes back. What the other side already has is not sent again. With nothing configured, a gateway of
your own is started on this machine; JUPYTER_GPU_GATEWAY and JUPYTER_GPU_TOKEN point at one elsewhere.

Three ways to say it
    %%remote gpu=H100                over a cell
    # remote: gpu=H100               as the first line of a cell: the same, and plain Python for linters
    %remote default gpu=H100         every later cell, until `%remote default off`;
                                     `# remote: off` as the first line keeps a cell here

Options of %%remote and # remote:
    gpu=TYPE[:N][,TYPE[:N]...]       hardware, in order of preference, in any case:
                                     gpu=H100   gpu=H100:2   gpu=H100,A100   gpu=any   gpu=cpu
                                     without it: the default, or else any GPU
    in=a,b                           send these variables and no others
    out=x,y                          bring back these variables and no others
    keep=model                       leave these on the worker: here they become handles, which later remote
                                     cells use like the value itself; model.fetch() brings a copy here.
                                     New results of more than 256 MB (JUPYTER_GPU_KEEP_ABOVE), or on a device, do
                                     so by themselves; out= brings them
    name=second                      another session of this notebook, beside the usual one
    timeout=30s                      stop the cell after that time: 30s, 5m, 1.5h, or a number of seconds
    idle=1h                          let the session go after so long without a cell
    quiet                            no line that sums up what the cell cost

Commands
    %remote status                   the gateway, its hardware, your sessions
    %%remote plan gpu=H100           over a cell: what would travel, how big it is, what is there already and
                                     what cannot go; nothing runs, nothing is sent
    %remote plan NAME ...            the same for variables
    %remote last                     what the last remote cell sent, what was there already, what stayed remote,
                                     what could not travel and why, what means nothing elsewhere
    %remote stop [NAME|all]          end this notebook's session, one by name or hardware, or all of them
    %remote default gpu=...|off      make later cells remote, or local again; alone: shows what holds now
    %remote quiet on|off             hide or show the lines that sum up
    %remote move H100                in a kernel of `jupyter gpu install`: the whole kernel goes there, with all that it
                                     has, and goes on; `local` brings it back, without=a,b or `anyway` leaves behind
                                     what cannot go

While a cell runs, the stop button interrupts the remote code, as it does here. A second press kills the
remote session. A worker that dies takes none of your local variables with it.

Examples
    %load_ext jupyter_gpu

    %%remote gpu=H100,A100 timeout=2h keep=optimizer
    for epoch in range(10):
        train(model, optimizer, data)

    %%remote gpu=cpu name=etl in=raw out=table
    table = clean(raw)
"""
