"""One third-party library or operating-system service per file, behind the ports of `core.ports`."""
