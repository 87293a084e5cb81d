"""The Hugging Face hub's client, without telemetry: its errors become headstart's, with the next step."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from headstart.errors import BackboneError, MissingExtra
from headstart.wording import first_line


@contextlib.contextmanager
def hub(name: str, repo: str, revision: str = "main") -> Iterator[Any]:
    """Open the hub's client; its errors become BackboneErrors with the next step. name: what is wanted, for people.

    No token is sent but one that the user set (HF_TOKEN or `hf auth login`), as the client does by itself.
    """
    try:
        from huggingface_hub import HfApi, constants, errors
    except ImportError as error:
        raise MissingExtra(f"the Hugging Face hub ({name})", "hub") from error
    before, constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_TELEMETRY, True
    page = f"{constants.ENDPOINT}/{repo}"
    try:
        yield HfApi(library_name="headstart")
    except errors.GatedRepoError as error:
        raise BackboneError(
            f"{name} is gated: accept its terms on {page}, then log in here with `hf auth login` (or set HF_TOKEN)"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BackboneError(
            f"the hub has no repository {repo}, or it is private; check the spelling, or log in with `hf auth login`"
        ) from error
    except errors.HFValidationError as error:
        raise BackboneError(f"{repo!r} cannot be the name of a repository: {first_line(error)}") from error
    except errors.RevisionNotFoundError as error:
        raise BackboneError(f"{repo} has no revision {revision!r}; {page} lists them") from error
    except errors.RemoteEntryNotFoundError as error:
        raise BackboneError(f"{name} needs a file that {page} does not have: {first_line(error)}") from error
    except (errors.HTTPError, OSError) as error:
        raise BackboneError(_unreachable(name, constants, errors, error)) from error
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before


@contextlib.contextmanager
def offline_if_unreachable(timeout: float = 3.0) -> Iterator[None]:
    """Let the client read its cache alone where no hub answers within some seconds: by itself it tries for a minute."""
    try:
        from huggingface_hub import constants
    except ImportError:  # then nothing asks a hub
        yield
        return
    before = constants.HF_HUB_OFFLINE
    if not before:
        parts = urlsplit(constants.ENDPOINT)
        try:
            port = parts.port or (80 if parts.scheme == "http" else 443)
            socket.create_connection((parts.hostname or "", port), timeout).close()
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _unreachable(name: str, constants: Any, errors: Any, error: Exception) -> str:
    causes = [error, error.__cause__, error.__context__]
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"{name} needs to know who you are: log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None and error.response.status_code in (401, 403):
        return f"the hub does not give {name}: {first_line(error)}; perhaps it must know who you are: `hf auth login`"
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in causes):
        return f"{name} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset it for the first time"
    if isinstance(error, errors.HfHubHTTPError):
        return f"the hub does not give {name}: {first_line(error)}"
    if isinstance(error, OSError) and error.errno and error.filename:
        return f"{name} cannot be kept: {error.strerror} ({error.filename}); choose another folder with --cache"
    return (
        f"{name} cannot be fetched from {constants.ENDPOINT}: {first_line(error)}; check the network, or fetch the file "
        "elsewhere and give its path"
    )
