"""The architectures that every test of the networks' contract goes through, by name."""

from __future__ import annotations

from helpers.network_cases.case import Case
from helpers.network_cases.dynunet import DYNUNET
from helpers.network_cases.mednext import MEDNEXT
from helpers.network_cases.nnunet import NNUNET
from helpers.network_cases.segresnet import SEGRESNET, SEGRESNET_DS
from helpers.network_cases.swin_unetr import SWIN_UNETR
from helpers.network_cases.unet import UNET

CASES: dict[str, Case] = {
    **UNET,
    **DYNUNET,
    **NNUNET,
    **SEGRESNET,
    **SEGRESNET_DS,
    **MEDNEXT,
    **SWIN_UNETR,
}
