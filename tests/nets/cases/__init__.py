"""The architectures that every test of the networks' contract goes through, by name."""

from __future__ import annotations

from nets.cases.case import Case
from nets.cases.dynunet import DYNUNET
from nets.cases.nnunet import NNUNET
from nets.cases.swin_unetr import SWIN_UNETR
from nets.cases.unet import UNET

CASES: dict[str, Case] = {**UNET, **DYNUNET, **NNUNET, **SWIN_UNETR}
