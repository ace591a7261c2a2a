"""What can be chosen in a browser."""

from poisonlab import registry


def offered(kind: str) -> list[str]:
    """Registered names of a kind, without what names a folder of this machine: a link could name any."""
    named = registry.KINDS[kind]
    return [name for name in named if not getattr(named[name], "by_path", False)]
