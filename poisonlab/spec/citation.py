"""A paper as a method cites it: in words, as a link and as BibTeX, all from the same fields."""

import re
import unicodedata
from dataclasses import dataclass, replace

_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_SPECIAL = str.maketrans({c: f"\\{c}" for c in "&%$#_"})


@dataclass(frozen=True)
class Reference:
    """A paper, a repository or a data set's own source. What is not known for certain stays empty.

    Attributes:
        authors: ``"T. Gu, S. Garg"``, in the paper's order; ``"H. Aghakhani et al."`` where only the first is noted.
        title: as printed.
        year: of the publication.
        venue: conference or workshop, without the year.
        journal, volume: in place of ``venue``.
        arxiv: the bare identifier, ``"1708.06733"``.
        doi: the bare identifier, ``"10.1016/..."``.
        role: how a method stands to it, where it is not simply the method's own paper: ``"as in"``.
        detail: the place in it, such as ``"appendix C"``.
    """

    authors: str
    title: str
    year: int | None = None
    venue: str = ""
    journal: str = ""
    volume: int | None = None
    arxiv: str = ""
    doi: str = ""
    role: str = ""
    detail: str = ""

    def cited(self, role: str = "", detail: str = "") -> "Reference":
        """The same paper as another method cites it."""
        return replace(self, role=role, detail=detail)

    @property
    def text(self) -> str:
        """One line for people: ``T. Gu, S. Garg: BadNets, 2017, arXiv:1708.06733``."""
        year = str(self.year or "")
        place = f"{self.journal} {self.volume or ''}".rstrip() + "," if self.journal else self.venue
        published = f"{place} {year}".strip(" ,")
        identifier = f"arXiv:{self.arxiv}" if self.arxiv else f"doi:{self.doi}" if self.doi else ""
        cited = f"{self.authors}: {self.title}"
        line = ", ".join(part for part in (cited, published, identifier, self.detail) if part)
        return f"{self.role} {line}" if self.role else line

    @property
    def url(self) -> str:
        """Where it can be read; empty where no identifier is known."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else ""

    @property
    def key(self) -> str:
        """What a text cites it by: the first author's last name, the year, the title's first long word."""
        first = self.authors.removesuffix(" et al.").split(", ")[0]
        words = [word for word in re.split(r"[^a-z0-9]+", _ascii(self.title)) if len(word) > 3]
        return f"{_ascii(first.split()[-1])}{self.year or ''}{words[0] if words else ''}"

    @property
    def bibtex(self) -> str:
        """An entry for a ``.bib`` file with the fields that are known."""
        kind = "inproceedings" if self.venue else "article" if self.journal else "misc"
        people = self.authors.replace(" et al.", ", others").split(", ")
        fields = {
            "author": " and ".join(people),
            "title": f"{{{self.title}}}",
            "booktitle": self.venue,
            "journal": self.journal,
            "volume": str(self.volume or ""),
            "year": str(self.year or ""),
            "eprint": self.arxiv,
            "archivePrefix": "arXiv" if self.arxiv else "",
            "doi": self.doi,
            "url": self.url,
        }
        verbatim = ("eprint", "doi", "url")
        lines = [
            f"  {name} = {{{value if name in verbatim else value.translate(_SPECIAL)}}},"
            for name, value in fields.items()
            if value
        ]
        return "\n".join([f"@{kind}{{{self.key},", *lines, "}"])


def linked(text: str) -> str:
    """Markdown in which every ``arXiv:2207.04497`` is a link."""
    return _ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _ascii(text: str) -> str:
    """Lower case without accents, as keys of a ``.bib`` file want it."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
