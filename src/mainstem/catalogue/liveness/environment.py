"""What child processes are told of our environment: what they need to run and to get out, and no secret."""

import os

_PASSED_ON = frozenset(
    {
        *("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "LANG", "LC_ALL"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    }
)


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.upper() in _PASSED_ON}
