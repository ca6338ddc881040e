"""`python -m swarmcli` is the `swarm` command."""

from swarmcli.cli.main import main

if __name__ == "__main__":
    main()
