"""Processes of their own (fork server and shim): standard library only, no threads, no network, no asyncio.

The fork server is started as ``python -I -S -c "<bootstrap>"`` where the bootstrap appends the directory that holds
the ``runner_agent`` package to ``sys.path``; that is the checkout of an editable install and ``site-packages`` of a
wheel, so both work and nothing else of the environment is imported. See `runner_agent.shim.fork_server`.
"""
