"""The kinds of threat that an attack can pose, by the names that records, tables and links use."""

from typing import Literal, get_args

ThreatKind = Literal["backdoor", "targeted", "corruption"]
THREATS: tuple[ThreatKind, ...] = get_args(ThreatKind)
