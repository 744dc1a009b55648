"""Where the files of jobs lie among the blobs."""

ROOT = "transcodes/"


def folder(job: str) -> str:
    return f"{ROOT}{job}/"


def source(job: str) -> str:
    """What was uploaded; gone when the job is final."""
    return f"{ROOT}{job}/source"


def output(job: str, run: int, path: str) -> str:
    """What a run made; `path` as the child named it."""
    return f"{ROOT}{job}/{run}/{path}"


def run_of(name: str) -> tuple[str, int | None] | None:
    """The job and the run that a blob belongs to; no run: it is the source. None for what is no blob of a job."""
    parts = name.removeprefix(ROOT).split("/")
    if not name.startswith(ROOT) or len(parts) < 2:
        return None
    return parts[0], int(parts[1]) if parts[1].isdigit() else None
