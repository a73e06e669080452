"""Folder names for case ids, which are input and may be anything."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?<!\.)")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_name(case_id: str) -> str:
    """Name of a case's folder: the id where that is a valid name on every system.

    Else what of it is valid, and the first 12 digits of its sha256.

    Examples
    --------
    >>> from habitat.cohort._names import safe_name
    >>> safe_name("P07"), safe_name("../x")
    ('P07', 'x-d6b96a97d147')
    """
    if _SAFE.fullmatch(case_id) and not _DEVICES.fullmatch(case_id):
        return case_id
    plain = unicodedata.normalize("NFKD", case_id).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_")[:40]
    digest = hashlib.sha256(case_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{slug or 'case'}-{digest[:12]}"
